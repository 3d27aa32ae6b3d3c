"""A set of feedback, labelled requests to a server, as `almanac feedback export` writes it.

    manifest.json   "format", "kind" (text or picture), "model", "classes", "rows" of each part, "files": {path: SHA-256}
    train.jsonl     a row a line: {"id", "row", "label"} and "text", or "image", a path below the folder
    heldout.jsonl   likewise, never to be trained on
    images/*.png    of pictures: 8 bits, grey or RGB

A set may come from someone else. Only files that the manifest has are read, and only if their SHA-256 is the one in it.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.data import user_files
from research.util import run_files
from research.util.errors import UserError, nearest

FORMAT = 1
MANIFEST = "manifest.json"
VALUES = {"text": "text", "picture": "image"}  # kind: the key of what was predicted of
FILES = {"train": "train.jsonl", "test": "heldout.jsonl"}  # the part of a data set: its file here
_SHAPE = run_files.Shape(
    {
        "format": run_files.COUNT, "kind": run_files.TEXT, "model": run_files.TEXT,
        "classes": run_files.many(run_files.TEXT), "rows": run_files.each(run_files.COUNT),
        "files": run_files.each(run_files.TEXT),
    }
)  # fmt: skip
_PNG, _GREY, _RGB = b"\x89PNG\r\n\x1a\n", 0, 2  # the signature and two colour types of the PNG specification


class Row(NamedTuple):
    """A labelled row of a request; `value` is its text, or its picture's path below the folder."""

    id: str
    row: int
    label: str
    value: str


class FeedbackSet(NamedTuple):
    """`parts` are train and test, the rows that were held out; `digest` is the SHA-256 of the manifest."""

    folder: Path
    digest: str
    classes: tuple[str, ...]
    parts: dict[str, list[Row]]

    @property
    def report(self) -> list[str]:
        """Lines for the report of a data set."""
        counts = ", ".join(f"{len(rows):,} {name}" for name, rows in self.parts.items())
        return [f"feedback {self.folder}: {counts}", f"sha256   {self.digest} of its {MANIFEST}"]


def read(folder: Path, kind: str) -> FeedbackSet:
    """The set in a folder, of which every byte was checked. `kind` is text or picture.

    Raises UserError if it is none, is of another format or kind, a file is missing, differs or lies elsewhere, a row lacks a
    label, is there twice or has a class that the manifest lacks, equal values lie in both parts, or none is to train on.
    """
    found, path = digest(folder), folder / MANIFEST
    manifest = run_files.read_object(path, _SHAPE)
    if manifest["format"] != FORMAT:
        raise UserError(f"{path}: of format {manifest['format']}; this Almanac reads {FORMAT}")
    if manifest["kind"] != kind:
        raise UserError(f"{path}: its rows are of kind {manifest['kind']!r}; this experiment takes {kind!r}")
    for name, sum_ in manifest["files"].items():
        _check_file(folder, name, sum_)
    parts = {part: _rows(folder, file, manifest) for part, file in FILES.items()}
    _check_parts(folder, parts, manifest)
    return FeedbackSet(folder, found, tuple(manifest["classes"]), parts)


def digest(folder: Path) -> str:
    """The SHA-256 of a set's manifest, and so of all its files. Raises UserError if there is none."""
    if not (folder / MANIFEST).is_file():
        raise UserError(f"{folder} is no set of feedback: it has no {MANIFEST}")
    return hashlib.sha256(run_files.read_bytes(_inside(folder, MANIFEST), run_files.LARGEST)).hexdigest()


def repeated(count: int, others: int, share: float | None) -> np.ndarray:
    """The numbers 0..count-1 in turn, i64[n], so often that they are the share `share` of n and `others` rows; None: each once.

    Raises UserError if the share is not below 1, or leaves a number out.

    >>> repeated(2, others=5, share=0.5).tolist()
    [0, 1, 0, 1, 0]
    """
    if share is None:
        return np.arange(count)
    if not count / (count + others) <= share < 1:
        raise UserError(
            f"data.extra_share = {share}: below 1 and at least {count / (count + others):.3f}, that of {count:,} rows once each"
        )
    return np.arange(max(count, round(others * share / (1 - share)))) % count


def _inside(folder: Path, name: str) -> Path:
    """The path of a file by its name in the manifest. Raises UserError if it leads out of the folder, by a link too."""
    try:
        if not Path(name).is_absolute() and (folder / name).resolve().is_relative_to(folder.resolve()):
            return folder / name
    except (OSError, ValueError):  # a name that no file can have
        pass
    raise UserError(f"{folder / MANIFEST}: the path {run_files.shown(name)} leads out of the folder")


def _check_file(folder: Path, name: str, sum_: str) -> None:
    blob = run_files.read_bytes(path := _inside(folder, name))
    if hashlib.sha256(blob).hexdigest() != sum_:
        raise UserError(f"{path} has changed: its SHA-256 is not the one in {MANIFEST}; export the set again")
    if name.startswith("images/") and not (blob[:8] == _PNG and blob[24:25] == b"\x08" and blob[25] in (_GREY, _RGB)):
        raise UserError(f"{path} is no PNG of 8 bits, grey or RGB")


def _rows(folder: Path, file: str, manifest: Mapping[str, Any]) -> list[Row]:
    if file not in manifest["files"]:
        raise UserError(f"{folder / MANIFEST}: {file} is not among its files")
    key, rows = VALUES[manifest["kind"]], []
    for place, row in user_files.json_lines(user_files.read(folder / file)):
        if isinstance(row, str) or (fault := _fault(row, key, manifest)):
            raise UserError(f"{folder / file}, {place}: {row if isinstance(row, str) else fault}")
        rows.append(Row(row["id"], row["row"], row["label"], row[key]))
    return rows


def _fault(row: Mapping[str, Any], key: str, manifest: Mapping[str, Any]) -> str:
    """What is wrong with a row; empty if nothing is."""
    shape = run_files.Shape(
        {"id": run_files.TEXT, "row": run_files.COUNT, "label": run_files.TEXT, key: run_files.TEXT}
    )
    if fault := shape.fault(row):
        return fault
    if row["label"] not in manifest["classes"]:
        return f"there is no class {run_files.shown(row['label'])}{nearest(row['label'], manifest['classes'])}"
    if key == "image" and not (row[key].startswith("images/") and row[key] in manifest["files"]):
        return f"{run_files.shown(row[key])} is no picture of the {MANIFEST}"
    if not row[key].strip() or not user_files.whole_characters(row["id"] + row[key]):
        return "no text, or half a surrogate pair"
    return ""


def _check_parts(folder: Path, parts: Mapping[str, list[Row]], manifest: Mapping[str, Any]) -> None:
    counts = {"train": len(parts["train"]), "heldout": len(parts["test"])}
    if counts != manifest["rows"]:
        raise UserError(f"{folder / MANIFEST}: rows {manifest['rows']}, and the files have {counts}")
    if not counts["train"]:
        raise UserError(f"{folder} has no row to train on; export more of the feedback")
    seen: set[tuple[str, int]] = set()
    for row in (row for rows in parts.values() for row in rows):
        if (row.id, row.row) in seen:
            raise UserError(f"{folder}: row {row.row} of request {run_files.shown(row.id)} is there twice")
        seen.add((row.id, row.row))
    train, test = ({manifest["files"].get(row.value, row.value) for row in rows} for rows in parts.values())
    if train & test:
        raise UserError(
            f"{folder}: {len(train & test):,} values are both to train on and held out; export the set again"
        )

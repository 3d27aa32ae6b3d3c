"""From captured rows on which feedback came to a data set, in a new folder that is never changed afterwards.

It is as research/data/feedback_sets.py reads it. The manifest also has the versions that answered, the times of the first and
last row ("from", "until") and of the export ("created"); of conversations a line is {"messages"}.

A row is held out by the hash of its request's id, and so in every later set as well. Of equal contents all take the side of the
oldest. The SHA-256 of the manifest is the set's digest.
"""

import collections
import datetime
import hashlib
import io
import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from research.data import feedback_sets
from research.data.images import image_files
from research.data.text import conversations
from research.serving.monitor import sealing, store
from research.serving.monitor.captured import CONVERSATIONS, PICTURE, TEXT
from research.util.errors import UserError, nearest

SIDES = tuple(name.removesuffix(".jsonl") for name in feedback_sets.FILES.values())  # train, heldout
LABELLED = (TEXT, PICTURE)
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Row(NamedTuple):
    """A captured row and the feedback on it; `input` is None where none came."""

    id: str
    row: int
    time: float
    version: str
    until: float
    kind: str
    input: bytes | None
    output: str | None
    label: str | None
    rating: int | None
    correction: str | None
    classes: str | None


class Sample(NamedTuple):
    """What a row becomes.

    values   its object in the .jsonl, without the path of a picture
    group    that it is counted with
    content  the same bytes of equal contents
    """

    row: Row
    values: dict
    group: str
    content: bytes


class Report(NamedTuple):
    """{group: rows of each of SIDES}, why rows were left out and how many, and the set's digest."""

    groups: dict[str, list[int]]
    left_out: dict[str, int]
    digest: str


def export(folders: Sequence[str | Path], model: str, out: Path, now: float, kinds: Sequence[str] = LABELLED) -> Report:
    """Writes the rows of a model in stores to the new folder `out`: those of `LABELLED` kinds, or conversations.

    now  seconds since 1970, at which contents may have expired

    Raises UserError if `out` exists or cannot be written, or no row is to train on: what is missing then.
    """
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} exists, and a data set is never changed: give --out a new folder")
    db = store.merged(folders, with_captured=model)
    rows = _rows(db, model)
    kind = _kind(rows, model, kinds)
    sample = {TEXT: _text, PICTURE: _picture, CONVERSATIONS: _conversation}[kind]
    samples, left_out = _samples(rows, sample, now)
    sides = _sides(samples)
    groups: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for each, side in zip(samples, sides, strict=True):
        groups[each.group][side] += 1
    if not any(train for train, _ in groups.values()):
        raise UserError(f"no row of {model} to train on: {_missing(len(samples), left_out)}")
    digest = _write(out, kind, model, samples, sides, now)
    return Report(dict(sorted(groups.items())), left_out, digest)


def _rows(db: sqlite3.Connection, model: str) -> list[Row]:
    """All captured rows of a model, from the oldest on."""
    found = db.execute(
        "select c.id, c.row, time, c.version, until, kind, input, output, label, rating, correction, classes "
        "from captured c left join feedback f on f.id = c.id and f.row = c.row "
        "left join models m on m.name = c.model and m.version = c.version where model = ? order by time, c.id, c.row",
        (model,),
    ).fetchall()
    if not found:
        served = {name for (name,) in db.execute("select distinct model from answers")}
        why = "it was served without --capture" if model in served else f"it was not served{nearest(model, served)}"
        raise UserError(f"nothing that {model} was asked is captured: {why}")
    return [sealing.opened(Row(*row)) for row in found]


def _kind(rows: Sequence[Row], model: str, wanted: Sequence[str]) -> str:
    kinds = sorted({row.kind for row in rows})
    if len(kinds) > 1:
        raise UserError(
            f"{model} was asked values of several kinds, {' and '.join(kinds)}: export the stores one by one"
        )
    if kinds[0] not in wanted:
        remedy = "give --kind conversations" if kinds[0] == CONVERSATIONS else "leave --kind out"
        raise UserError(f"what {model} was asked is of kind {kinds[0]}: {remedy}")
    return kinds[0]


def _samples(
    rows: Sequence[Row], sample: Callable[[Row], Sample | str], now: float
) -> tuple[list[Sample], dict[str, int]]:
    """-> the samples, and why rows are none: {reason: rows}."""
    made = [_refusal(row, now) or _attempt(sample, row) for row in rows]
    left_out = collections.Counter(each for each in made if isinstance(each, str))
    return [each for each in made if not isinstance(each, str)], dict(sorted(left_out.items()))


def _refusal(row: Row, now: float) -> str:
    if not _ID.fullmatch(row.id):
        return "with an id that no server gave"
    if row.until <= now:
        return "kept for longer than its days"
    return "without feedback" if row.input is None else ""


def _attempt(sample: Callable[[Row], Sample | str], row: Row) -> Sample | str:
    try:
        return sample(row)
    except (*image_files.UNREADABLE, ValueError, TypeError, KeyError):
        return "with contents that cannot be read"


def _label_fault(row: Row) -> str:
    if row.label is None:
        return "without a label"
    return "" if row.label in json.loads(row.classes or "[]") else "with a label that is no class of the model"


def _text(row: Row) -> Sample | str:
    assert row.input is not None
    values = {"id": row.id, "row": row.row, "label": row.label, "text": row.input.decode()}
    return _label_fault(row) or Sample(row, values, str(row.label), row.input)


def _picture(row: Row) -> Sample | str:
    assert row.input is not None
    if fault := _label_fault(row):
        return fault
    pixels = np.asarray(Image.open(io.BytesIO(row.input), formats=["PNG"]))
    values = {"id": row.id, "row": row.row, "label": row.label}
    return Sample(row, values, str(row.label), repr(pixels.shape).encode() + pixels.tobytes())


def _conversation(row: Row) -> Sample | str:
    """A correction is learnt in place of the answer; without one, the answer itself if it was rated 1."""
    assert row.input is not None
    if row.correction is None and row.rating != 1:
        return "neither corrected nor rated 1"
    reply = row.output if row.correction is None else row.correction
    if not reply or not reply.strip():
        return "rated 1, but empty or cut at its length"
    messages = [*json.loads(row.input), conversations.message("assistant", reply)]
    if conversations.fault_of(messages):
        return "of messages that do not take turns"
    return Sample(row, {"messages": messages}, "rated 1" if row.correction is None else "corrected", row.input)


def _sides(samples: Iterable[Sample]) -> list[bool]:
    """Whether each sample is held out: its index in SIDES."""
    of_content: dict[bytes, bool] = {}
    return [of_content.setdefault(each.content, is_held_out(each.row.id)) for each in samples]


def is_held_out(id: str) -> bool:
    """True of one request in five, by its id alone.

    >>> sum(is_held_out(str(i)) for i in range(1000))
    193
    """
    return int(hashlib.sha256(id.encode()).hexdigest(), 16) % 5 == 0


def _missing(samples: int, left_out: dict[str, int]) -> str:
    reasons = [f"{count:,} captured {reason}" for reason, count in left_out.items()]
    return "; ".join(
        [*reasons, f"{samples:,} held out, and more are needed" if samples else "POST /v1/feedback adds it"]
    )


# The folder


def _write(out: Path, kind: str, model: str, samples: list[Sample], sides: list[bool], now: float) -> str:
    """Writes the set whole or not at all -> its digest."""
    part = out.with_name(out.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)  # left by a kill
        part.mkdir(parents=True)
        lines: tuple[list[str], list[str]] = ([], [])
        for each, side in zip(samples, sides, strict=True):
            image = {"image": _write_image(part, each.row)} if kind == PICTURE else {}
            lines[side].append(json.dumps(each.values | image, ensure_ascii=False) + "\n")
        for name, of_side in zip(SIDES, lines, strict=True):
            (part / f"{name}.jsonl").write_text("".join(of_side), "utf-8")
        about = {
            "format": feedback_sets.FORMAT, "kind": kind, "model": model,
            "versions": sorted({each.row.version for each in samples}),
            "classes": sorted({each.group for each in samples}) if kind in LABELLED else [],
            "rows": {name: len(of_side) for name, of_side in zip(SIDES, lines, strict=True)},
            "from": _moment(samples[0].row.time), "until": _moment(samples[-1].row.time), "created": _moment(now),
            "files": _sums(part),
        }  # fmt: skip
        blob = (json.dumps(about, ensure_ascii=False, indent=1) + "\n").encode()
        (part / feedback_sets.MANIFEST).write_bytes(blob)
        part.rename(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return hashlib.sha256(blob).hexdigest()


def _write_image(folder: Path, row: Row) -> str:
    name = f"images/{row.id}-{row.row}.png"
    (folder / "images").mkdir(exist_ok=True)
    (folder / name).write_bytes(row.input or b"")
    return name


def _sums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")

"""The user's own labelled texts: a table (.csv, .tsv, .jsonl) or one folder per class."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from research.data import user_files
from research.util.errors import UserError

PARTS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "dev": "valid", "test": "test"}
TABLES = {".csv": ",", ".tsv": "\t"}
MOST = 1 << 20  # characters of a text; a longer one is more likely an error than a document


class Row(NamedTuple):
    """A labelled text."""

    text: str
    label: str
    part: str  # train, valid or test; empty if not given


def read(cfg: Mapping[str, Any]) -> tuple[list[Row], list[str]]:
    """The texts of `cfg["path"]`, and a line for each that was skipped. Raises UserError if none is left.

    A table has the columns (or a .jsonl the keys) `text_key` and `label_key`, by default text and label, and optionally
    split. A folder has one folder of .txt files per class; train, valid and test may be folders above those.
    """
    root = user_files.root(cfg)
    keys = tuple(user_files.option(cfg, f"{name}_key", name) for name in ("text", "label"))
    if root.is_dir():
        outcomes = _folder(root)
    elif root.suffix in TABLES:
        outcomes = _table(root, TABLES[root.suffix], keys)
    elif root.suffix == ".jsonl":
        outcomes = _lines(root, keys)
    else:
        raise UserError(f"data.path = {root}: want a folder a class, or a .csv, .tsv or .jsonl of text and label")
    rows, faults = [], []
    for place, row in outcomes:
        if isinstance(row, str):
            faults.append(f"{place}: {row}")
        elif fault := _fault(row):
            faults.append(f"{place}: {fault}")
        else:
            rows.append(row._replace(part=PARTS.get(row.part, "")))
    if not rows:
        raise UserError(f"data.path = {root}: no labelled text found ({faults[0] if faults else 'no file of a class'})")
    return rows, faults


def _fault(row: Row) -> str:
    """What is wrong with a row; empty if nothing is."""
    if not row.text.strip():
        return "no text"
    if not row.label.strip():
        return "no label"
    if len(row.text) > MOST:
        return f"a text of {len(row.text):,} characters, more than {MOST:,}"
    if row.part and row.part not in PARTS:
        return f"split {row.part!r} is not train, valid or test"
    return ""


Outcomes = Iterator[tuple[str, Row | str]]  # the file or line, and the row or its fault


def _folder(root: Path) -> Outcomes:
    for path in user_files.visible(root):
        name = path.relative_to(root)
        if path.suffix != ".txt":
            continue
        part = name.parts[0] if len(name.parts) > 2 and name.parts[0] in PARTS else ""
        if len(name.parts) == 1:
            yield name.as_posix(), "not in a class folder"
            continue
        try:
            yield name.as_posix(), Row(path.read_text(encoding="utf-8-sig"), name.parts[1 if part else 0], part)
        except UnicodeDecodeError as error:
            yield name.as_posix(), f"not UTF-8 (byte 0x{error.object[error.start]:02x} at {error.start:,})"


def _text(root: Path) -> str:
    try:
        return root.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        at = f"byte 0x{error.object[error.start]:02x} at {error.start:,}"
        raise UserError(f"data.path = {root} is not UTF-8 ({at}); convert it") from None


def _table(root: Path, delimiter: str, keys: tuple[str, str]) -> Outcomes:
    lines = _text(root).splitlines(keepends=True)
    csv.field_size_limit(max(csv.field_size_limit(), 2 * MOST))
    plain = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE  # a .tsv's quotation marks are text
    reader = csv.reader(lines, delimiter=delimiter, quoting=plain)  # type: ignore[arg-type]
    try:
        columns = next(reader, [])
        if missing := [key for key in keys if key not in columns]:
            raise UserError(
                f"{root} has no column {missing[0]!r} but {', '.join(columns) or 'no first line'}; "
                "name them in its first line, or set data.text_key and data.label_key"
            )
        for cells in reader:
            row = dict(zip(columns, cells, strict=False))
            text, label = (row.get(key, "") for key in keys)
            yield f"line {reader.line_num}", Row(text, label, row.get("split", ""))
    except csv.Error as error:
        raise UserError(f"{root}, line {reader.line_num}: {error}") from None


def _lines(root: Path, keys: tuple[str, str]) -> Outcomes:
    for number, line in enumerate(_text(root).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            text, label = (row[key] for key in keys)
            text.encode("utf-8")  # JSON can spell half a surrogate pair
            yield f"line {number}", Row(text, str(label), str(row.get("split", "")))
        except json.JSONDecodeError as error:
            yield f"line {number}", f"not JSON ({error.msg})"
        except UnicodeEncodeError:
            yield f"line {number}", "half a surrogate pair"
        except (KeyError, TypeError, AttributeError, IndexError):
            yield f"line {number}", f"no text under {keys[0]!r}, or no label under {keys[1]!r}"

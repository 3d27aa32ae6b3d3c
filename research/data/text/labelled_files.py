"""The user's own labelled texts: a table (.csv, .tsv, .jsonl) or one folder per class."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from research.data import user_files
from research.util.errors import UserError

SUFFIXES = (".txt",)  # of a class folder's files
MOST = 1 << 20  # characters of a text; a longer one is more likely an error than a document


class Row(NamedTuple):
    """A labelled text."""

    text: str
    label: str
    part: str  # train, valid or test; empty if not given


Outcomes = Iterator[tuple[str, Row | str]]  # the file or line, and the row or its fault


def read(cfg: Mapping[str, Any]) -> tuple[list[Row], list[str]]:
    """The texts of `cfg["path"]`, and lines for a report on what was skipped. Raises UserError if no text is left.

    A table has the columns (or a .jsonl the keys) `text_key` and `label_key`, by default text and label, and optionally
    split. A folder has one folder of .txt files per class; train, valid and test may be folders above those. A label has no
    white space around it. In a .jsonl it may be a number or a truth value, whose name is its JSON text: 1.0 is 1.
    """
    root = user_files.root(cfg)
    keys = tuple(user_files.option(cfg, f"{name}_key", name) for name in ("text", "label"))
    report: list[str] = []
    suffix = root.suffix.lower()
    if root.is_dir():
        outcomes, report = _folder(root)
    elif suffix in user_files.TABLES:
        outcomes = _table(root, user_files.TABLES[suffix], keys, report)
    elif suffix == ".jsonl":
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
            rows.append(row._replace(label=row.label.strip(), part=user_files.part(row.part)))
    if not rows:
        why = [*faults, *(line.partition("  ")[2] for line in report), "no file of a class"]
        raise UserError(f"data.path = {root}: no labelled text found ({why[0]})")
    return rows, [*user_files.listed("skipped ", faults), *report]


def _fault(row: Row) -> str:
    """What is wrong with a row; empty if nothing is."""
    if not row.text.strip():
        return "no text"
    if not row.label.strip():
        return "no label"
    if len(row.text) > MOST:
        return f"a text of {len(row.text):,} characters, more than {MOST:,}"
    if user_files.part(row.part) is None:
        return f"split {row.part!r} is not train, valid or test"
    return ""


def _folder(root: Path) -> tuple[Outcomes, list[str]]:
    """-> the outcomes, and lines on files of other kinds."""
    paths, faults = user_files.listing(root)
    texts = [path for path in paths if path.suffix.lower() in SUFFIXES]
    others = [path for path in paths if path.suffix.lower() not in SUFFIXES]
    places = [user_files.in_folder_per_class(path.relative_to(root) for path in group) for group in (texts, others)]
    labelled = list(zip(texts, places[0], strict=True))
    report = list(user_files.ignored(others, SUFFIXES))
    known = {label for _, (label, _) in labelled}
    report += user_files.unread_classes((path.relative_to(root) for path in others), known)

    def outcomes() -> Outcomes:
        for fault in faults:
            place, _, reason = fault.partition(": ")
            yield place, reason
        for path, (label, part) in labelled:
            yield path.relative_to(root).as_posix(), _file(path, label, part)

    return outcomes(), report


def _file(path: Path, label: str, part: str) -> Row | str:
    if not label:
        return "not in a class folder"
    try:
        return Row(user_files.text(path), label, part)
    except user_files.Unreadable as e:
        return str(e)


def _table(root: Path, delimiter: str, keys: tuple[str, ...], report: list[str]) -> Outcomes:
    """The rows; a line on cells of several lines is added to the report, because a stray quotation mark makes one."""
    remedy = "name them in its first line, or set data.text_key and data.label_key"
    longest, several = (0, ""), 0
    for row in user_files.table(root, delimiter, keys, remedy):
        if row.cells is None:
            yield row.place, row.fault
            continue
        text, label = (row.cells[key] for key in keys)
        if row.place.startswith("lines"):
            several, longest = several + 1, max(longest, (text.count("\n"), row.place))
        yield row.place, Row(text, label, row.cells.get("split", ""))
    if several:
        report.append(f"rows     {several:,} of several lines, the longest {longest[1]}")


def _lines(root: Path, keys: tuple[str, ...]) -> Outcomes:
    for place, row in user_files.json_lines(user_files.read(root)):
        yield place, row if isinstance(row, str) else _of_object(row, keys)


def _of_object(row: Mapping[str, Any], keys: tuple[str, ...]) -> Row | str:
    text, label, part = row.get(keys[0]), row.get(keys[1]), row.get("split")
    if not isinstance(text, str):
        return f"no text under {keys[0]!r}" if text is None else f"no text under {keys[0]!r} but {_shown(text)}"
    if (name := label_name(label)) is None:
        return f"no label under {keys[1]!r}" if label is None else f"no label under {keys[1]!r} but {_shown(label)}"
    if part is not None and not isinstance(part, str):
        return f"split {_shown(part)} is not train, valid or test"
    if not user_files.whole_characters(text + name):
        return "half a surrogate pair"
    return Row(text, name, part or "")


def label_name(value: Any) -> str | None:
    """A JSON value as the name of a class; None if it is no label.

    >>> [label_name(value) for value in ("pos", 1, 1.0, True, None, float("nan"), ["pos"])]
    ['pos', '1', '1', 'true', None, None, None]
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int | float):
        return str(int(value)) if value == int(value) else repr(value)
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

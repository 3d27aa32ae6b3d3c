"""The user's own data: options of the config, the one reader of each format, the files of a folder, lists for a report.

A file is read as its format says, whole, or it is reported. Text is UTF-8, with or without a byte order mark, and characters
are never changed: a line ends at \\n or \\r\\n, and at nothing else that Unicode calls a line break.

text, lines      a text, and its lines
records, table   the rows of a .csv or .tsv, by their lines in the file
json_lines       the objects of a .jsonl, by their lines
json_value       the value of a .json
numbers          the array of a .npy
listing          the files of a folder, and what in it cannot be read
"""

import collections
import csv
import io
import json
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.util import home
from research.util.errors import UserError

PARTS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "dev": "valid", "test": "test"}
TABLES = {".csv": ",", ".tsv": "\t"}  # suffix: what separates the cells
_CELL = 2**31 - 1  # characters of a cell, at most: the csv module's own limit is lower
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_HALF = re.compile("[\ud800-\udfff]")


class Unreadable(ValueError):
    """A file cannot be read; the message is the reason, without the file's name."""


# The config


def option(cfg: Mapping[str, Any], key: str, default: Any) -> Any:
    """`cfg[key]`, or the default if it is None or missing."""
    value = cfg[key] if key in list(cfg) else None
    return default if value is None else value


def root(cfg: Mapping[str, Any]) -> Path:
    """The file or folder `cfg["path"]`. Raises UserError if it is not set or does not exist."""
    path = stem(cfg)
    try:
        path.stat()
    except FileNotFoundError:
        raise UserError(f"data.path = {path} does not exist") from None
    except (OSError, ValueError) as e:
        raise UserError(f"data.path = {path} cannot be read: {_reason(e)}") from None
    return path


def stem(cfg: Mapping[str, Any]) -> Path:
    """`cfg["path"]` with the user's folder in place of `~`; it need not exist. Raises UserError if it is not set."""
    if (path := option(cfg, "path", None)) is None:
        raise UserError(f"data.path is not set; data.source = {cfg['source']!r} needs it")
    return home.expanded(path, "data.path")


# Texts


def text(path: str | Path) -> str:
    """The characters of a UTF-8 file, without a byte order mark. Raises Unreadable if it has none to read, or is binary."""
    try:
        raw = Path(path).read_bytes()
    except (OSError, ValueError) as e:  # ValueError: a name with a zero byte
        raise Unreadable(_reason(e)) from None
    if (at := raw.find(b"\0")) >= 0:
        raise Unreadable(f"binary, or not UTF-8 (a zero byte at {at:,})")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        at = e.start + 3 * raw.startswith(b"\xef\xbb\xbf")  # the codec counts from after the byte order mark
        raise Unreadable(f"not UTF-8 (byte 0x{raw[at]:02x} at {at:,})") from None


def read(path: str | Path) -> str:
    """As `text`. Raises UserError if it cannot be read."""
    try:
        return text(path)
    except Unreadable as e:
        raise UserError(f"cannot read {path} as UTF-8 text: {e}") from None


def lines(text: str) -> list[str]:
    """A text's lines, without their ends; the last may have none.

    >>> lines("a\\u2028b\\r\\n\\nc")
    ['a\\u2028b', '', 'c']
    """
    return [line.removesuffix("\n").removesuffix("\r") for line in lines_with_ends(text)]


def lines_with_ends(text: str) -> list[str]:
    """The same lines as parts of the text: together they are all of it."""
    return _LINE.findall(text)


def read_pair(path: str | Path) -> tuple[str, str]:
    """A UTF-8 file -> its first line and the remaining text: a question and a passage. Raises UserError if it cannot be read."""
    question, _, passage = read(path).strip().partition("\n")
    return question.removesuffix("\r"), passage


def numbers(path: str | Path, what: str) -> np.ndarray:
    """A .npy file -> f32[...]. Raises UserError, which says that `what` is wanted, if it cannot be read."""
    try:
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as e:  # TypeError: an .npz
        raise UserError(f"cannot read {path} as a .npy {what}: {e}") from None


# Tables


class Record(NamedTuple):
    """The cells of a row, and the lines of the file, from 1, on which it begins and ends."""

    first: int
    last: int
    cells: list[str]

    @property
    def place(self) -> str:
        return f"line {self.first}" if self.first == self.last else f"lines {self.first} to {self.last}"


def records(path: str | Path, delimiter: str) -> Iterator[Record]:
    """The rows of a .csv or .tsv, blank lines left out. In a .tsv a quotation mark is a character as any other.

    Raises UserError if the file cannot be read, and for a quotation mark that is never closed, or closed within a cell.
    """
    csv.field_size_limit(_CELL)
    quotes = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    file = io.StringIO(read(path), newline="")
    reader = csv.reader(file, delimiter=delimiter, quoting=quotes, strict=True)  # type: ignore[arg-type]
    first = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as e:
            raise UserError(f"{path}, {_quote_fault(e, first, reader.line_num)}") from None
        if cells:
            yield Record(first, reader.line_num, cells)
        first = reader.line_num + 1


def _quote_fault(error: csv.Error, first: int, last: int) -> str:
    if "unexpected end" in str(error):
        return f'line {first}: a quotation mark (") opens a cell here that is never closed; close it, or double it in the text'
    if "expected after" in str(error):
        where = f"line {first}" if first == last else f"lines {first} and {last}"
        return (
            f'{where}: a quotation mark (") opens a cell, and another closes it within the text; '
            "double those that belong to the text"
        )
    return f"line {last}: {error}"


class TableRow(NamedTuple):
    """A row's place in the file, and its cells by column; None if there are too many or too few, as `fault` says."""

    place: str
    cells: dict[str, str] | None
    fault: str = ""


def table(path: str | Path, delimiter: str, needed: Sequence[str], remedy: str) -> Iterator[TableRow]:
    """The rows under the names in the first line. Raises UserError as `records` does, and for a name that is missing or repeated.

    needed  the names that must be there; `remedy` ends the message if one is not
    """
    rows = records(path, delimiter)
    columns = next(rows, Record(1, 1, [])).cells
    if missing := [name for name in needed if name not in columns]:
        raise UserError(f"{path} has no column {missing[0]!r} but {', '.join(columns) or 'no first line'}; {remedy}")
    if repeated := [name for name, count in collections.Counter(columns).items() if count > 1 and name]:
        raise UserError(f"{path} has several columns {repeated[0]!r}; give them different names in its first line")
    for row in rows:
        if (count := len(row.cells)) == len(columns):
            yield TableRow(row.place, dict(zip(columns, row.cells, strict=True)))
        else:
            yield TableRow(row.place, None, f"{count} cell{'s' * (count != 1)} under {len(columns)} names")


# JSON


def json_value(path: str | Path) -> Any:
    """The value of a UTF-8 .json. Raises UserError if it cannot be read, is not JSON, or an object has a key twice."""
    try:
        return parse_json(read(path))
    except ValueError as e:
        raise UserError(f"cannot read {path} as JSON: {e}") from None


def parse_json(text: str) -> Any:
    """A JSON text -> its value. Raises ValueError with the reason in one line if it is none, or an object has a key twice."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def json_lines(text: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """The text of a .jsonl -> ("line N", the object, or what is wrong with the line) of each line that is not blank."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number}", _json_object(line)


def _json_object(line: str) -> dict[str, Any] | str:
    try:
        value = parse_json(line)
    except ValueError as e:
        return f"not JSON ({getattr(e, 'msg', e)})"
    return value if isinstance(value, dict) else f"no JSON object but {line.strip()[:40]!r}"


def whole_characters(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    return not _HALF.search(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = collections.Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {repeated!r} twice in one object")
    return found


# Folders


def listing(root: Path) -> tuple[list[Path], list[str]]:
    """-> the files under `root` at any depth, sorted by name, and a line for each thing that cannot be read.

    Links are followed, except to a folder that they are in. Hidden files and folders are skipped. Not read are a link to
    nothing, a folder that may not be opened, a pipe or device, and a name that is not UTF-8.
    """
    files: list[Path] = []
    faults: list[str] = []
    _list(root, root, (), files, faults)
    return files, faults


def _list(folder: Path, root: Path, above: tuple[tuple[int, int], ...], files: list[Path], faults: list[str]) -> None:
    """Adds what is in `folder`; `above` are (device, inode) of the folders that lead to it."""
    try:
        status = folder.stat()
        if (identity := (status.st_dev, status.st_ino)) in above:
            faults.append(f"{folder.relative_to(root).as_posix()}: a link back to a folder that it is in")
            return
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as e:
        faults.append(f"{folder.relative_to(root).as_posix()}: {_reason(e)}")
        return
    folders = []
    for name in names:
        path = folder / name
        kind, fault = _kind(path)
        if fault:
            faults.append(f"{path.relative_to(root).as_posix()}: {fault}")
        elif stat.S_ISDIR(kind):
            folders.append(path)
        else:
            files.append(path)
    for path in folders:
        _list(path, root, (*above, identity), files, faults)


def _kind(path: Path) -> tuple[int, str]:
    """The mode of a file or folder, and why it is not read."""
    try:
        path.name.encode("utf-8")
        mode = path.stat().st_mode
    except UnicodeEncodeError:
        return 0, "its name is not UTF-8; rename it"
    except FileNotFoundError:
        return 0, "a link to nothing"
    except OSError as e:
        return 0, _reason(e)
    return mode, "" if stat.S_ISDIR(mode) or stat.S_ISREG(mode) else "neither a file nor a folder"


def ignored(paths: Sequence[Path], suffixes: Sequence[str]) -> Iterator[str]:
    """A line for a report on files that are left unread because their names do not end in one of `suffixes`."""
    if paths:
        kinds = collections.Counter(path.suffix or "without suffix" for path in paths).most_common(6)
        counts = ", ".join(f"{n} {kind}" for kind, n in kinds)
        yield f"ignored  {len(paths)} files that are not {' '.join(suffixes)}: {counts}"


def in_folder_per_class(names: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Files' names relative to a folder of class folders -> (class, part), ("", "") for one in no class folder.

    The class folders may be in folders train, valid and test; part is empty if they are not.
    """
    for name in names:
        part = PARTS.get(name.parts[0].lower(), "") if len(name.parts) > 2 else ""
        yield (name.parts[1 if part else 0], part) if len(name.parts) > 1 else ("", "")


def unread_classes(unread: Iterable[Path], known: Iterable[str]) -> Iterator[str]:
    """Lines for a report: classes of which no file is read, because of the kind of their files.

    unread  names of files that are not read, relative to the folder of class folders
    known   the classes of which a file is read
    """
    kinds: dict[str, collections.Counter] = {}
    unread = list(unread)
    for name, (kind, _) in zip(unread, in_folder_per_class(unread), strict=True):
        if kind:
            kinds.setdefault(kind, collections.Counter())[name.suffix or "without suffix"] += 1
    lost = sorted(kinds.keys() - set(known))
    items = [f"{kind}: {', '.join(f'{n} {suffix}' for suffix, n in kinds[kind].most_common(3))}" for kind in lost]
    return listed("warning  classes of which no file is read:", items)


def part(name: str) -> str | None:
    """A part's name as users write it -> train, valid or test; empty for an empty name, None for another.

    >>> part(" Dev "), part(""), part("trian")
    ('valid', '', None)
    """
    name = name.strip().lower()
    return PARTS.get(name) if name else ""


# Reports


def listed(title: str, items: Sequence[str], most: int = 8) -> Iterator[str]:
    """Lines of a report: the title with the number of items, and at most `most` of the items.

    >>> list(listed("skipped", ["a", "b"], most=1))
    ['skipped 2', '         a', '         and 1 more']
    """
    if items:
        yield f"{title} {len(items)}"
    yield from (f"         {item}" for item in items[:most])
    if len(items) > most:
        yield f"         and {len(items) - most} more"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)

"""Reads the files of a run directory, which may come from a stranger. Nothing is written, and nothing in them is believed.

A fault is a UserError that names the file, the line and what is wrong: a link that leads out of the directory, something that
is no file, no UTF-8, no JSON, a value of another type, nesting without end.
"""

import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from research.util.errors import UserError

VOCABULARY = "vocabulary.json"  # in a run's directory: what the token ids of its checkpoints mean
DEPTH = 64  # levels of nesting
MOST = 2**53  # steps and counts: above it a double skips whole numbers
LARGEST = 2**26  # bytes of a JSON file: parsed it takes ten times as many. The largest vocabularies have half of that


class Kind(NamedTuple):
    """What a value has to be, in words and as a test."""

    words: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    """JSON's NaN and Infinity count: what could not be measured. An int has to fit a double."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**1023)


TEXT = Kind("a text", lambda v: isinstance(v, str))
NUMBER = Kind("a number", _is_number)
FINITE = Kind("a finite number", lambda v: _is_number(v) and abs(v) < float("inf"))
COUNT = Kind("a whole number from 0", lambda v: type(v) is int and 0 <= v <= MOST)
TRUTH = Kind("true or false", lambda v: isinstance(v, bool))
OBJECT = Kind("an object", lambda v: isinstance(v, dict))


def maybe(kind: Kind) -> Kind:
    """`kind` or null."""
    return Kind(f"{kind.words} or null", lambda v: v is None or kind.fits(v))


def each(kind: Kind) -> Kind:
    """An object whose values are all of `kind`."""
    return Kind(
        f"an object whose values are each {kind.words}", lambda v: isinstance(v, dict) and _all(kind, v.values())
    )


def many(kind: Kind) -> Kind:
    """A list whose members are all of `kind`."""
    return Kind(f"a list whose members are each {kind.words}", lambda v: isinstance(v, list) and _all(kind, v))


def _all(kind: Kind, values: Any) -> bool:
    return all(map(kind.fits, values))


class Shape(NamedTuple):
    """The keys that an object must have, and those that it may have, with the kind of each. Others are free."""

    required: Mapping[str, Kind] = {}
    optional: Mapping[str, Kind] = {}

    def fault(self, value: Any) -> str:
        """What is wrong with `value`; empty if nothing is."""
        if not isinstance(value, dict):
            return f"wanted an object, not {shown(value)}"
        for key in self.required:
            if key not in value:
                return f"{key!r} is missing"
        for key, kind in {**self.required, **self.optional}.items():
            if key in value and not kind.fits(value[key]):
                return f"{key!r}: wanted {kind.words}, not {shown(value[key])}"
        return ""


def shown(value: Any) -> str:
    """A value in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


ATTEMPT = Shape(
    {"step": maybe(COUNT), "config": TEXT},
    {
        "when": TEXT, "commit": maybe(TEXT), "devices": maybe(TEXT), "sources": TEXT, "changed": many(TEXT),
        "edited": many(TEXT), "note": TEXT,
    },
)  # fmt: skip
CONFIG = Shape(
    {"config": OBJECT},
    {
        "name": maybe(TEXT), "parameters": maybe(COUNT), "devices": maybe(TEXT), "commit": maybe(TEXT),
        "versions": each(TEXT), "fingerprint": OBJECT, "run": maybe(TEXT), "sources": each(TEXT),
        "attempts": many(Kind("an attempt", lambda v: not ATTEMPT.fault(v))), "config_version": COUNT,
    },
)  # fmt: skip
METRICS = Shape({"step": COUNT, "split": TEXT, "values": each(maybe(NUMBER))})
TIMING = Shape(
    {"step": COUNT},
    {"seconds": FINITE, "examples_per_s": maybe(NUMBER), "tokens_per_s": maybe(NUMBER), "mfu": maybe(NUMBER)},
)
REPORT = Shape(
    {}, {"lines": many(TEXT), "baselines": each(each(NUMBER)), "final": each(NUMBER), "units": each(TEXT)}
)  # fmt: skip
NOT_FINITE = Shape({"step": COUNT, "what": TEXT})
ANY = Shape()
LOGS = {"metrics.jsonl": METRICS, "timing.jsonl": TIMING}


# Files


def inside(folder: Path, name: str) -> Path:
    """The path of `name` in a run directory. Raises UserError if a link there leads out of the directory."""
    path = Path(folder) / name
    root, real = os.path.realpath(folder), os.path.realpath(path)
    if os.path.commonpath([root, real]) != root:
        raise UserError(f"{path}: a link that leads out of the run directory; put the file itself there")
    return path


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """A file's content. Raises UserError if it is absent, cannot be read, has more than `most` bytes, or is no regular file (a
    pipe would wait for ever)."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError(f"{path}: no regular file")
            if most is not None and (size := os.fstat(file.fileno()).st_size) > most:
                raise UserError(f"{path}: {size:,} bytes, where such a file has at most {most:,}")
            return file.read()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as e:  # ValueError: a name with a NUL
        raise UserError(f"cannot read {path}: {getattr(e, 'strerror', None) or e}") from None


def read_text(path: Path, most: int | None = None) -> str:
    """A file of UTF-8 text, without a byte order mark; what `read_bytes` raises, and UserError if it is none."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 at byte {e.start:,}") from None


def read_json(path: Path) -> Any:
    """A JSON file's value, of at most LARGEST bytes and DEPTH levels; UserError as above."""
    value, fault = _parse(read_text(path, LARGEST))
    if fault:
        raise UserError(f"{path}: {fault}")
    return value


def read_object(path: Path, shape: Shape = ANY) -> dict[str, Any]:
    """A JSON file's object, checked against `shape`; UserError as above."""
    value = read_json(path)
    if fault := shape.fault(value):
        raise UserError(f"{path}: {fault}")
    return value


def _parse(text: str) -> tuple[Any, str]:
    """(value, "") of a JSON text, or (None, what is wrong with it)."""
    try:
        value = json.loads(text)
    except RecursionError:
        return None, f"nested deeper than {DEPTH} levels"
    except ValueError as e:
        return None, f"not JSON ({e}): {shown(text.strip())}"
    return (None, f"nested deeper than {DEPTH} levels") if _deeper(value, DEPTH) else (value, "")


def _deeper(value: Any, levels: int) -> bool:
    inner = [value]
    for _ in range(levels + 1):
        inner = [
            v
            for one in inner
            if isinstance(one, (dict, list))
            for v in (one.values() if isinstance(one, dict) else one)
        ]
        if not inner:
            return False
    return True


# Logs: JSON lines


class Line(NamedTuple):
    """One line of a log: its number from 1, its bytes, and its object or what is wrong with it."""

    number: int
    raw: bytes
    row: dict[str, Any] | None
    fault: str


class Log(NamedTuple):
    """A log's lines, and what a kill while writing left of one more: bytes without an end of line that are no whole line."""

    lines: list[Line]
    cut: bytes

    def faults(self) -> list[str]:
        """`line 3: not JSON ...` of each line that cannot be read."""
        return [f"line {line.number}: {line.fault}" for line in self.lines if line.row is None]


def read_log(path: Path, shape: Shape) -> Log:
    """The lines of a JSON-lines file, those that cannot be read among them; UserError as `read_bytes` raises it."""
    *whole, last = read_bytes(path).split(b"\n")
    lines = [_line(number, raw, shape) for number, raw in enumerate(whole, 1)]
    end = _line(len(lines) + 1, last, shape)
    return Log([*lines, end], b"") if last and end.row is not None else Log(lines, last)


def read_rows(path: Path, shape: Shape) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file but for half a last line. Raises UserError that counts and names what cannot be read."""
    log = read_log(path, shape)
    if faults := log.faults():
        raise UserError(f"{path}, {summary(faults)}")
    return [line.row for line in log.lines]


def summary(faults: list[str], most: int = 3) -> str:
    """The first faults in a line, and how many more there are."""
    return "; ".join([*faults[:most], *([f"and {len(faults) - most:,} more lines"] if len(faults) > most else [])])


def _line(number: int, raw: bytes, shape: Shape) -> Line:
    try:
        row, fault = _parse(raw.decode("utf-8"))
    except UnicodeDecodeError as e:
        row, fault = None, f"not UTF-8 at byte {e.start:,}"
    fault = fault or shape.fault(row)
    return Line(number, raw, None if fault else row, fault)

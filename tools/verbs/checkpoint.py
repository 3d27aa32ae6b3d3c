"""`almanac checkpoint VERB`: inspects, copies or averages checkpoints, without the devices that saved them."""

import argparse
import math
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from research.run import checkpoint_files as files
from research.run import manifest
from research.run.checkpoint_files import Checkpoint
from research.util.errors import UserError
from research.util.escape import visible
from tools.checkpoint import copy

WHICH = "DIR[@WHICH]"
ABOUT_AVERAGE = (
    "Writes the mean of a run's newest checkpoints as a run directory for evaluate, sample, predict and export. DIR must not "
    "exist. Averaged are the parameters, their moving average and mutable collections; everything else is the newest "
    "checkpoint's. Training would start at step 0 there."
)
ABOUT_ADAPTERS = (
    "Writes the adapters of a run, and what trained in full beside them, without the frozen parameters. WHICH is a step, last "
    "or best (the default, if one is kept). research.interop.adapter_file.apply merges them with the base's parameters."
)
ABOUT_WHICH = "DIR is a run directory or a folder of checkpoints; WHICH is a step, last (the default) or best"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="almanac checkpoint", description=__doc__.partition(": ")[2])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = verbs.add_parser("list", help="the checkpoints of DIR")
    verb.add_argument("dir", metavar="DIR")
    verb = verbs.add_parser("show", help="each leaf of one: dtype, shape, norm, range", description=ABOUT_WHICH)
    verb.add_argument("checkpoint", metavar=WHICH)
    verb.add_argument("--filter", metavar="REGEX", default="", help="only leaves whose path matches")
    verb = verbs.add_parser("diff", help="compares two leaf by leaf; status 1 if they differ", description=ABOUT_WHICH)
    verb.add_argument("a", metavar=WHICH)
    verb.add_argument("b", metavar=WHICH)
    verb = verbs.add_parser("verify", help="compares each byte with what was saved; status 1 if one is damaged")
    verb.add_argument("dir", metavar=WHICH, help="one checkpoint, or all of DIR")
    verb = verbs.add_parser("copy", help="copies verified ones to a new folder", description=copy.__doc__)
    verb.add_argument("source", metavar="SRC[@WHICH]", help="one checkpoint, or all of SRC")
    verb.add_argument("target", metavar="DST")
    verb = verbs.add_parser("average", help="the mean of a run's newest ones", description=ABOUT_AVERAGE)
    verb.add_argument("run", metavar="RUN")
    verb.add_argument("--last", type=int, default=10, metavar="N", help="the number to average (default: 10)")
    verb.add_argument("--out", required=True, metavar="DIR")
    verb = verbs.add_parser("adapters", help="what a run of LoRA has trained, as one file", description=ABOUT_ADAPTERS)
    verb.add_argument("run", metavar="RUN[@WHICH]")
    verb.add_argument("--out", required=True, type=Path, metavar="FILE", help="FILE.safetensors, which must not exist")
    args = parser.parse_args(argv)
    files.quiet()
    try:
        return _run(args)
    except FileNotFoundError as e:
        raise UserError(f"{e.filename}: removed while it was read; is a run in progress there? Try again") from None


def _run(args: argparse.Namespace) -> int:
    if args.verb == "list":
        return show_list(args.dir)
    if args.verb == "show":
        return show(args.checkpoint, args.filter)
    if args.verb == "diff":
        return diff(args.a, args.b)
    if args.verb == "verify":
        return verify(args.dir)
    if args.verb == "average":
        from tools.checkpoint import average  # builds the experiment: models, optimisers and data

        print(visible(average.write(args.run, args.last, args.out)))
        return 0
    if args.verb == "adapters":
        from research.interop import adapter_file  # imports the models

        print(visible(adapter_file.write(args.run, args.out)))
        return 0
    print(visible(copy.copy(args.source, args.target)))
    return 0


# list


def show_list(text: str) -> int:
    """Prints a table of the checkpoints in the folder `text`, without Orbax: it reads no array's shape."""
    heading = ("checkpoint", "kind", "MB", "saved (UTC)", "leaves", "files")
    rows = [_row(checkpoint) for checkpoint in files.find(files.split(text)[0])]
    print("\n".join(_aligned([heading, *rows], "<<><><")))
    return 0


def _row(checkpoint: Checkpoint) -> tuple[str, ...]:
    saved = checkpoint.saved()
    time_saved = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(saved)) if saved else "-"
    try:
        leaves = f"{len(checkpoint.json('checksums')['state']):,}"
    except (UserError, LookupError, TypeError):  # damaged, half-written, or from before there were checksums
        leaves = "-"
    return str(checkpoint), checkpoint.kind, f"{checkpoint.bytes() / 1e6:,.1f}", time_saved, leaves, _files(checkpoint)


def _files(checkpoint: Checkpoint) -> str:
    if not manifest.exists(checkpoint.path):
        return "unchecked"
    return "; ".join(manifest.problems(checkpoint.path)) or "whole"


# show


class Stats(NamedTuple):
    """One leaf: L2 norm, min and max of the finite elements (NaN if there is none), the numbers of zeros and non-finite ones."""

    norm: float
    low: float
    high: float
    zeros: int
    bad: int


def stats(x: np.ndarray) -> Stats:
    """Statistics of an array of any shape, in double precision. The norm is of all elements, the range of the finite ones.

    >>> stats(np.array([3.0, -4.0, 0.0]))
    Stats(norm=5.0, low=-4.0, high=3.0, zeros=1, bad=0)
    """
    squares, low, high, zeros, bad = 0.0, math.inf, -math.inf, 0, 0
    for block in _blocks(x):
        finite = block[np.isfinite(block)]
        squares += float(np.square(block).sum())
        zeros, bad = zeros + int((block == 0).sum()), bad + len(block) - len(finite)
        if len(finite):
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return Stats(math.sqrt(squares), *((low, high) if low <= high else (math.nan, math.nan)), zeros, bad)


def _blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    """The elements as f64[n], a few megabytes at a time."""
    flat = x.reshape(-1)
    for start in range(0, len(flat), files.BLOCK):
        yield flat[start : start + files.BLOCK].astype(np.float64)


def show(text: str, pattern: str = "") -> int:
    """Prints the statistics of each leaf of checkpoint `text` (DIR[@WHICH]) whose path matches `pattern`, and totals."""
    checkpoint = files.choose(text)
    rows = [("leaf", "dtype", "shape", "L2 norm", "min", "max", "zeros", "not finite")]
    totals: dict[str, list[float]] = {}  # leaves, elements, bytes, squares, not finite
    for name, x in _arrays(checkpoint, _matching(pattern, _names(checkpoint))):
        s = stats(x)
        numbers = f"{s.norm:.6g}", f"{s.low:.4g}", f"{s.high:.4g}", f"{s.zeros / max(1, x.size):.1%}", f"{s.bad:,}"
        rows.append((name, str(x.dtype), str(list(x.shape)), *numbers))
        counts = (1, x.size, x.nbytes, s.norm**2, s.bad)
        top = name.partition("/")[0]
        totals[top] = [a + b for a, b in zip(totals.get(top, [0.0] * 5), counts, strict=True)]
    print(f"{visible(checkpoint.path)}  step {checkpoint.step:,}  {checkpoint.kind}")
    print("\n".join(_aligned(rows, "<<<>>>>>")))
    heading = ("in all", "leaves", "elements", "MB", "L2 norm", "not finite")
    sums = [
        (top, f"{leaves:,.0f}", f"{size:,.0f}", f"{count / 1e6:,.2f}", f"{math.sqrt(squares):.6g}", f"{bad:,.0f}")
        for top, (leaves, size, count, squares, bad) in totals.items()
    ]
    print("\n" + "\n".join(_aligned([heading, *sums], "<>>>>>")))
    return 0


def _names(checkpoint: Checkpoint) -> list[str]:
    try:
        return list(checkpoint.leaves)
    except Exception as e:  # as above
        raise _unreadable(checkpoint, "its metadata", e) from None


def _matching(pattern: str, names: list[str]) -> list[str]:
    try:
        matches = [name for name in names if re.search(pattern, name)]
    except re.error as e:
        raise UserError(f"--filter={pattern}: no regular expression: {e}") from None
    if not matches:
        raise UserError(f"--filter={pattern}: matches none of {len(names)} leaves, such as {names[0]}")
    return matches


def _arrays(checkpoint: Checkpoint, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    for name, x in checkpoint.arrays(names):
        if isinstance(x, Exception):
            raise _unreadable(checkpoint, name, x)
        yield name, x


def _unreadable(checkpoint: Checkpoint, what: str, e: Exception) -> UserError:
    return UserError(f"{checkpoint.path}: cannot read {what}: {files.first_line(e)}; see `almanac checkpoint verify`")


# diff


def diff(text_a: str, text_b: str) -> int:
    """Prints a line for each leaf of two checkpoints (DIR[@WHICH]) -> 1 if any differs, else 0."""
    a, b = files.choose(text_a), files.choose(text_b)
    names = list(dict.fromkeys([*_names(a), *_names(b)]))
    comparable = [name for name in names if _type(a, name) == _type(b, name)]
    differences = {name: f"{_type(a, name)} against {_type(b, name)}" for name in names if name not in comparable}
    for (name, x), (_, y) in zip(_arrays(a, comparable), _arrays(b, comparable), strict=True):
        differences[name] = difference(x, y)
    print("\n".join(_aligned([(name, differences[name] or "bitwise equal") for name in names], "<<")))
    different = sum(map(bool, differences.values()))
    equal = f"{len(names) - different:,} of {len(names):,} leaves are bitwise equal"
    print(f"\n{visible(a.path)} and {visible(b.path)}: {equal}")
    return int(different > 0)


def _type(checkpoint: Checkpoint, name: str) -> str:
    leaf = checkpoint.leaves.get(name)
    return f"{leaf.dtype}{list(leaf.shape)}" if leaf is not None else "absent"


def difference(x: np.ndarray, y: np.ndarray) -> str:
    """The difference between two arrays of the same shape and dtype, as text; empty if they are bitwise equal.

    >>> difference(np.array([3.0, 4.0]), np.array([3.0, 4.5]))
    'max |a-b| 0.5, ||a-b||/||a|| 0.1'
    """
    if x.tobytes() == y.tobytes():
        return ""
    largest = error = norm = 0.0  # error, norm: sums of squares
    for a, b in zip(_blocks(x), _blocks(y), strict=True):
        largest = np.maximum(largest, np.abs(a - b).max())  # propagates NaN
        error, norm = error + float(np.square(a - b).sum()), norm + float(np.square(a).sum())
    relative = math.sqrt(error / norm) if norm else math.inf
    return f"max |a-b| {largest:.3g}, ||a-b||/||a|| {relative:.3g}"


# verify


def verify(text: str) -> int:
    """Verifies one checkpoint, or all of a folder, and prints the result -> 1 if one is damaged or there is none, else 0."""
    folder, which = files.split(text)
    checkpoints = [files.choose(text)] if which else files.find(folder)
    checked = [checkpoint for checkpoint in checkpoints if checkpoint.whole or which]
    damaged, width = 0, max((len(visible(checkpoint)) for checkpoint in checked), default=0)
    for checkpoint in checked:
        faults = files.verify(checkpoint)
        removed = not checkpoint.path.exists()  # by a run in progress
        damaged += bool(faults) and not removed
        result = "removed" if removed else "DAMAGED" if faults else _whole(checkpoint)
        print(f"{visible(checkpoint):{width}}  {result}", flush=True)
        print("".join(f"    {visible(fault)}\n" for fault in faults if not removed), end="")
    if unchecked := [str(checkpoint) for checkpoint in checkpoints if checkpoint not in checked]:
        print(f"set aside or half-written, not checked: {visible(', '.join(unchecked))}")
    if not checked:
        print("there is no other")
    elif damaged:
        print(f"{damaged} of {len(checked)} damaged")
    else:
        print("no damage")
    return int(damaged > 0 or not checked)


def _whole(checkpoint: Checkpoint) -> str:
    text = f"whole: {len(checkpoint.leaves):,} leaves"
    if manifest.exists(checkpoint.path):
        return f"{text}, {len(list(manifest.files(checkpoint.path))):,} files"
    return f"{text} (no {manifest.NAME}: files that no leaf is read from are unchecked)"


def _aligned(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Rows of cells as lines, in columns. `sides` has "<" or ">" for each column: left or right aligned.

    >>> _aligned([("leaf", "zeros"), ("w", "0")], "<>")
    ['leaf  zeros', 'w         0']
    """
    text = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in text) for i in range(len(sides))]
    cells = (zip(row, sides, widths, strict=True) for row in text)
    return ["  ".join(f"{cell:{side}{width}}" for cell, side, width in row).rstrip() for row in cells]

"""`almanac checkpoint VERB`: looks into checkpoints on a machine without the devices that saved them, copies, averages."""

import argparse
import math
import re
import time
from collections.abc import Iterator, Sequence
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
    "The mean of a run's newest checkpoints, as a run directory for evaluate, sample, predict and export. DIR must not exist. "
    "Parameters, averaged ones and mutable collections are averaged; the rest is the newest checkpoint's. Training would begin "
    "at 0 there."
)
ABOUT_WHICH = "DIR is a run directory or a folder of checkpoints; WHICH is a step, last (the default) or best"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="almanac checkpoint", description=__doc__.partition(": ")[2])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = verbs.add_parser("list", help="the checkpoints of DIR")
    verb.add_argument("dir", metavar="DIR")
    verb = verbs.add_parser("show", help="every leaf of one: dtype, shape, norm, range", description=ABOUT_WHICH)
    verb.add_argument("one", metavar=WHICH)
    verb.add_argument("--filter", metavar="REGEX", default="", help="only the leaves whose path it matches")
    verb = verbs.add_parser("diff", help="two compared leaf by leaf; status 1 if they differ", description=ABOUT_WHICH)
    verb.add_argument("a", metavar=WHICH)
    verb.add_argument("b", metavar=WHICH)
    verb = verbs.add_parser("verify", help="each byte against what was saved; status 1 if one is damaged")
    verb.add_argument("dir", metavar=WHICH, help="one checkpoint, or all of DIR")
    verb = verbs.add_parser("copy", help="verified, to a new folder", description=copy.__doc__)
    verb.add_argument("source", metavar="SRC[@WHICH]", help="one checkpoint, or all of SRC")
    verb.add_argument("target", metavar="DST")
    verb = verbs.add_parser("average", help="the mean of a run's newest", description=ABOUT_AVERAGE)
    verb.add_argument("run", metavar="RUN")
    verb.add_argument("--last", type=int, default=10, metavar="N", help="how many (default: 10)")
    verb.add_argument("--out", required=True, metavar="DIR")
    args = parser.parse_args(argv)
    files.quiet()
    try:
        return _run(args)
    except FileNotFoundError as e:
        raise UserError(f"{e.filename}: removed while it was read; is a run going on there? Try again") from None


def _run(args: argparse.Namespace) -> int:
    if args.verb == "list":
        return show_list(args.dir)
    if args.verb == "show":
        return show(args.one, args.filter)
    if args.verb == "diff":
        return diff(args.a, args.b)
    if args.verb == "verify":
        return verify(args.dir)
    if args.verb == "average":
        from tools.checkpoint import average  # builds the experiment: models, optimisers and data

        print(visible(average.write(args.run, args.last, args.out)))
        return 0
    print(visible(copy.copy(args.source, args.target)))
    return 0


# list


def show_list(text: str) -> int:
    heading = ("checkpoint", "kind", "MB", "saved (UTC)", "leaves", "parameters", "files")
    rows = [_row(one) for one in files.find(files.split(text)[0])]
    print("\n".join(_aligned([heading, *rows], "<<><>><")))
    return 0


def _row(one: Checkpoint) -> tuple[str, ...]:
    saved = one.saved()
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(saved)) if saved else "-"
    try:
        sizes = {name: math.prod(leaf.shape) for name, leaf in one.leaves.items()}
    except Exception:  # a damaged or half-written one raises a dozen kinds
        counts = ("-", "-")
    else:
        counts = f"{len(sizes):,}", f"{sum(n for name, n in sizes.items() if name.startswith('params/')):,}"
    return str(one), one.kind, f"{one.bytes() / 1e6:,.1f}", when, *counts, _files(one)


def _files(one: Checkpoint) -> str:
    if not manifest.exists(one.path):
        return "unchecked"
    return "; ".join(manifest.problems(one.path)) or "whole"


# show


class Stats(NamedTuple):
    """Of one leaf: L2 norm, least and most of what is finite (NaN where nothing is), zeros, not finite."""

    norm: float
    low: float
    high: float
    zeros: int
    bad: int


def stats(x: np.ndarray) -> Stats:
    squares, low, high, zeros, bad = 0.0, math.inf, -math.inf, 0, 0
    for block in _blocks(x):
        finite = block[np.isfinite(block)]
        squares += float(np.square(block).sum())
        zeros, bad = zeros + int((block == 0).sum()), bad + len(block) - len(finite)
        if len(finite):
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return Stats(math.sqrt(squares), *((low, high) if low <= high else (math.nan, math.nan)), zeros, bad)


def _blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    """In double precision, a few megabytes at a time."""
    flat = x.reshape(-1)
    for start in range(0, len(flat), files.BLOCK):
        yield flat[start : start + files.BLOCK].astype(np.float64)


def show(text: str, pattern: str = "") -> int:
    one = files.choose(text)
    rows = [("leaf", "dtype", "shape", "L2 norm", "min", "max", "zeros", "not finite")]
    totals: dict[str, list[float]] = {}  # leaves, elements, bytes, squares, not finite
    for name, x in _arrays(one, _matching(pattern, _names(one))):
        s = stats(x)
        numbers = f"{s.norm:.6g}", f"{s.low:.4g}", f"{s.high:.4g}", f"{s.zeros / max(1, x.size):.1%}", f"{s.bad:,}"
        rows.append((name, str(x.dtype), str(list(x.shape)), *numbers))
        adds = (1, x.size, x.nbytes, s.norm**2, s.bad)
        top = name.partition("/")[0]
        totals[top] = [a + b for a, b in zip(totals.get(top, [0.0] * 5), adds, strict=True)]
    print(f"{visible(one.path)}  step {one.step:,}  {one.kind}")
    print("\n".join(_aligned(rows, "<<<>>>>>")))
    heading = ("in all", "leaves", "elements", "MB", "L2 norm", "not finite")
    sums = [
        (top, f"{leaves:,.0f}", f"{size:,.0f}", f"{count / 1e6:,.2f}", f"{math.sqrt(squares):.6g}", f"{bad:,.0f}")
        for top, (leaves, size, count, squares, bad) in totals.items()
    ]
    print("\n" + "\n".join(_aligned([heading, *sums], "<>>>>>")))
    return 0


def _names(one: Checkpoint) -> list[str]:
    try:
        return list(one.leaves)
    except Exception as e:  # as above
        raise _unreadable(one, "its metadata", e) from None


def _matching(pattern: str, names: list[str]) -> list[str]:
    try:
        found = [name for name in names if re.search(pattern, name)]
    except re.error as e:
        raise UserError(f"--filter={pattern}: no regular expression: {e}") from None
    if not found:
        raise UserError(f"--filter={pattern}: matches none of {len(names)} leaves, such as {names[0]}")
    return found


def _arrays(one: Checkpoint, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    for name, x in one.arrays(names):
        if isinstance(x, Exception):
            raise _unreadable(one, name, x)
        yield name, x


def _unreadable(one: Checkpoint, what: str, e: Exception) -> UserError:
    return UserError(f"{one.path}: cannot read {what}: {files.first_line(e)}; see `almanac checkpoint verify`")


# diff


def diff(text_a: str, text_b: str) -> int:
    a, b = files.choose(text_a), files.choose(text_b)
    names = list(dict.fromkeys([*_names(a), *_names(b)]))
    alike = [name for name in names if _type(a, name) == _type(b, name)]
    said = {name: f"{_type(a, name)} against {_type(b, name)}" for name in names if name not in alike}
    for (name, x), (_, y) in zip(_arrays(a, alike), _arrays(b, alike), strict=True):
        said[name] = difference(x, y)
    print("\n".join(_aligned([(name, said[name] or "equal to the bit") for name in names], "<<")))
    unlike = sum(map(bool, said.values()))
    print(
        f"\n{visible(a.path)} and {visible(b.path)}: {len(names) - unlike:,} of {len(names):,} leaves are equal to the bit"
    )
    return int(unlike > 0)


def _type(one: Checkpoint, name: str) -> str:
    leaf = one.leaves.get(name)
    return f"{leaf.dtype}{list(leaf.shape)}" if leaf is not None else "absent"


def difference(x: np.ndarray, y: np.ndarray) -> str:
    """Of two arrays of one shape and dtype; empty if no bit differs."""
    if x.tobytes() == y.tobytes():
        return ""
    most = squares = of = 0.0
    for a, b in zip(_blocks(x), _blocks(y), strict=True):
        most = np.maximum(most, np.abs(a - b).max())  # which keeps a NaN
        squares, of = squares + float(np.square(a - b).sum()), of + float(np.square(a).sum())
    relative = math.sqrt(squares / of) if of else math.inf
    return f"max |a-b| {most:.3g}, ||a-b||/||a|| {relative:.3g}"


# verify


def verify(text: str) -> int:
    folder, which = files.split(text)
    found = [files.choose(text)] if which else files.find(folder)
    looked = [one for one in found if one.whole or which]
    damaged, width = 0, max((len(visible(one)) for one in looked), default=0)
    for one in looked:
        lines = files.verify(one)
        gone = not one.path.exists()  # a run that goes on has removed it
        damaged += bool(lines) and not gone
        print(f"{visible(one):{width}}  {'gone' if gone else 'DAMAGED' if lines else _whole(one)}", flush=True)
        print("".join(f"    {visible(line)}\n" for line in lines if not gone), end="")
    if beside := [str(one) for one in found if one not in looked]:
        print(f"set aside or half-written, not looked into: {visible(', '.join(beside))}")
    if not looked:
        print("there is no other")
    elif damaged:
        print(f"{damaged} of {len(looked)} damaged")
    else:
        print("all is well")
    return int(damaged > 0 or not looked)


def _whole(one: Checkpoint) -> str:
    text = f"whole: {len(one.leaves):,} leaves"
    if manifest.exists(one.path):
        return f"{text}, {len(list(manifest.files(one.path))):,} files"
    return f"{text} (no {manifest.NAME}: what no leaf is read from is unchecked)"


def _aligned(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in shown) for i in range(len(sides))]
    cells = (zip(row, sides, widths, strict=True) for row in shown)
    return ["  ".join(f"{cell:{side}{width}}" for cell, side, width in row).rstrip() for row in cells]

"""almanac stress: real runs killed, injured, moved to other devices and left on for long; what came of it is counted.

kills      SIGKILL in every phase of a run: the finished run is the undisturbed one, bit for bit
damage     one injury to one file of a checkpoint: never restored wrong
elastic    other devices, meshes, rules and processes in each life: each example once, losses that agree
flat       a long run's memory, threads, files and step time, and what logging and saving cost

Everything runs on this machine's CPU, in processes of its own. Exit status 1 where something did not hold.
"""

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax

from research.host import device
from research.host.errors import UserError, nearest
from research.host.records import read_json, write_json, write_text
from tools import stress_damage, stress_elastic, stress_flat, stress_kills
from tools.reproduce import machine
from tools.stress_process import ROOT, families

RESULTS = ROOT / "tools" / "stress_results"
BEGIN, END = "<!-- stress -->", "<!-- /stress -->"
COLUMNS = ("what was done", "how often", "what failed", "measured")


class Part(NamedTuple):
    """A module with `measure`, `row` and `faults`, and how much of it is the long form."""

    module: Any
    much: int
    unit: str


PARTS = {
    "kills": Part(stress_kills, 105, "kills"),
    "damage": Part(stress_damage, 600, "injuries"),
    "elastic": Part(stress_elastic, 100, "ordered pairs of plans, or all there are"),
    "flat": Part(stress_flat, 20_000, "steps"),
}


def run(what: str, names: Sequence[str], count: int, seed: int) -> dict[str, Any]:
    """Measures one part -> its results. What its processes wrote is kept where something failed."""
    folder = Path(tempfile.mkdtemp(prefix=f"almanac-stress-{what}-"))
    print(f"{what}: {count:,} {PARTS[what].unit}; {', '.join(names)}; in {folder}", flush=True)
    found = PARTS[what].module.measure(names, count, seed, folder, lambda line: print(line, flush=True))
    if not PARTS[what].module.faults(found):
        shutil.rmtree(folder)
    about: dict[str, Any] = {"measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "commit": device.commit()}
    about |= {"versions": device.versions(), "machine": machine(), "seed": seed, "count": count}
    return about | found


# ---- The README's table


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """{part: its results} -> a Markdown table, and below it what it was measured on."""
    known = {what: part for what, part in PARTS.items() if what in results}
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(part.module.row(results[what]) for what, part in known.items())]
    notes = [_note(what, results[what]) for what in known]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows) + "\n\n" + "\n".join(dict.fromkeys(notes))


def _note(what: str, found: Mapping[str, Any]) -> str:
    where, versions = found["machine"], found["versions"]
    return (
        f"{what}: {where['cpu']}, {where['cores']} cores; JAX {versions['jax']}, Orbax {versions['orbax-checkpoint']}; "
        f"{found['measured']}, commit {found['commit']}, seed {found['seed']}."
    )


def kept(folder: Path = RESULTS) -> dict[str, Any]:
    """The committed results, by part."""
    return {what: read_json(folder / f"{what}.json") for what in PARTS if (folder / f"{what}.json").exists()}


def _split(path: Path) -> tuple[str, str, str]:
    """A README as (to the first marker with it, what stands between, from the second marker on)."""
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise UserError(f"{path}: wants one line {BEGIN} and, after it, one line {END}")
    head, rest = text.split(BEGIN)
    between, tail = rest.split(END)
    return head + BEGIN, between.strip("\n"), END + tail


def write_readme(path: Path, folder: Path = RESULTS) -> None:
    """The table of the committed results between the README's markers."""
    head, _, tail = _split(path)
    write_text(path, f"{head}\n\n{table(kept(folder))}\n\n{tail}")


def problems(root: Path = ROOT) -> list[str]:
    """A line for each way in which the README's table is not what the committed results say."""
    found = kept(root / "tools" / "stress_results")
    if not found:
        return []
    try:
        between = _split(root / "README.md")[1]
    except UserError as e:
        return [str(e)]
    says, wants = between.splitlines(), table(found).splitlines()
    lines = [f"README.md, stress: no line {line!r}" for line in wants if line not in says]
    lines += [f"README.md, stress: no result says {line!r}" for line in says if line not in wants]
    return lines or ([] if says == wants else ["README.md, stress: the lines are right but their order is not"])


# ---- The command


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac stress", allow_abbrev=False, description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    counts = ", ".join(f"{what} {part.much:,} {part.unit}" for what, part in PARTS.items())
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--count", type=int, metavar="N", help=f"how much of each; default: {counts}")
    parser.add_argument("--family", action="append", default=[], metavar="F", help="once or more; default: all")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of what is random; default: 0")
    parser.add_argument(
        "--write", action="store_true", help=f"keep {RESULTS.relative_to(ROOT)}/WHAT.json, and the README's table"
    )
    args = parser.parse_args(argv)
    for what in args.what:
        if what not in PARTS:
            raise UserError(f"almanac stress {what}: no such part{nearest(what, PARTS)}")
    if args.count is not None and args.count < 1:
        raise UserError(f"--count={args.count}: at least 1")
    names = families(args.family)
    if args.write:
        _split(ROOT / "README.md")  # a missing marker should not cost the hours
    with contextlib.suppress(RuntimeError):  # JAX runs already, with its number
        jax.config.update("jax_num_cpu_devices", 8)  # batch boundaries are looked at from up to eight
    device.choose("cpu")
    failed = []
    for what in args.what or PARTS:
        found = run(what, names, args.count or PARTS[what].much, args.seed)
        failed += PARTS[what].module.faults(found)
        if args.write:
            RESULTS.mkdir(exist_ok=True)
            write_json(RESULTS / f"{what}.json", found)
            write_readme(ROOT / "README.md")
        print(table({what: found}), end="\n\n", flush=True)
    print("\n".join(failed) or "everything held")
    return int(bool(failed))

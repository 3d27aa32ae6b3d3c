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
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax

from research.cluster import device
from research.util.errors import UserError, nearest
from research.util.files import write_json
from tools.dev.stress_cases import stress_damage, stress_elastic, stress_flat, stress_kills
from tools.dev.stress_cases.stress_process import families
from tools.results import stress_table
from tools.results.stress_table import RESULTS
from tools.root import RELIABILITY_PAGE, ROOT
from tools.verbs.reproduce import machine


class Part(NamedTuple):
    """A module with `measure` and `faults`, and how much of it is the long form."""

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
        "--write",
        action="store_true",
        help=f"keep {RESULTS.relative_to(ROOT)}/WHAT.json, and the table of {RELIABILITY_PAGE}",
    )
    args = parser.parse_args(argv)
    for what in args.what:
        if what not in PARTS:
            raise UserError(f"almanac stress {what}: no such part{nearest(what, PARTS)}")
    if args.count is not None and args.count < 1:
        raise UserError(f"--count={args.count}: at least 1")
    names = families(args.family)
    if args.write:
        stress_table.split(ROOT / RELIABILITY_PAGE)  # a missing marker should not cost the hours
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
            stress_table.write_page(ROOT / RELIABILITY_PAGE)
        print(stress_table.table({what: found}), end="\n\n", flush=True)
    print("\n".join(failed) or "everything held")
    return int(bool(failed))

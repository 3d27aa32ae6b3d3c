"""`almanac stress`: real runs that are killed, corrupted, moved to other devices or very long, and counts of the failures.

kills      SIGKILL in every phase of a run; the resumed run must equal an uninterrupted one, bit for bit
damage     one corrupted file of a checkpoint; a restore must detect it or not depend on it
elastic    other devices, meshes, sharding rules and processes in each attempt; each example once, equal losses
flat       memory, threads, files and step time of a long run, and the cost of logging and saving

All runs are on this machine's CPU, in processes of their own. The exit status is 1 if there is a failure.
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
    """A module with `measure` and `faults`, the default count, and its unit."""

    module: Any
    default_count: int
    unit: str


PARTS = {
    "kills": Part(stress_kills, 105, "kills"),
    "damage": Part(stress_damage, 600, "corrupted files"),
    "elastic": Part(stress_elastic, 100, "ordered pairs of plans, or all"),
    "flat": Part(stress_flat, 20_000, "steps"),
}


def run(part: str, names: Sequence[str], count: int, seed: int) -> dict[str, Any]:
    """Measures part `what` with the families `names` -> its results. The run directories are kept if there is a failure."""
    folder = Path(tempfile.mkdtemp(prefix=f"almanac-stress-{part}-"))
    print(f"{part}: {count:,} {PARTS[part].unit}; {', '.join(names)}; in {folder}", flush=True)
    results = PARTS[part].module.measure(names, count, seed, folder, lambda line: print(line, flush=True))
    if not PARTS[part].module.faults(results):
        shutil.rmtree(folder)
    about: dict[str, Any] = {"measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "commit": device.commit()}
    about |= {"versions": device.versions(), "machine": machine(), "seed": seed, "count": count}
    return about | results


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac stress", allow_abbrev=False, description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    counts = ", ".join(f"{what} {part.default_count:,} {part.unit}" for what, part in PARTS.items())
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--count", type=int, metavar="N", help=f"the size of each part; default: {counts}")
    parser.add_argument("--family", action="append", default=[], metavar="F", help="may be repeated; default: all")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="random seed; default: 0")
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"write {RESULTS.relative_to(ROOT)}/WHAT.json and the table of {RELIABILITY_PAGE}",
    )
    args = parser.parse_args(argv)
    for what in args.what:
        if what not in PARTS:
            raise UserError(f"almanac stress {what}: no such part{nearest(what, PARTS)}")
    if args.count is not None and args.count < 1:
        raise UserError(f"--count={args.count}: at least 1")
    names = families(args.family)
    if args.write:
        stress_table.split(ROOT / RELIABILITY_PAGE)  # raises before measuring if a marker is missing
    with contextlib.suppress(RuntimeError):  # if JAX has started, with its own number of devices
        jax.config.update("jax_num_cpu_devices", 8)  # the batch boundaries are computed for up to eight
    device.choose("cpu")
    failed = []
    for what in args.what or PARTS:
        results = run(what, names, args.count or PARTS[what].default_count, args.seed)
        failed += PARTS[what].module.faults(results)
        if args.write:
            RESULTS.mkdir(exist_ok=True)
            write_json(RESULTS / f"{what}.json", results)
            stress_table.write_page(ROOT / RELIABILITY_PAGE)
        print(stress_table.table({what: results}), end="\n\n", flush=True)
    print("\n".join(failed) or "no failures")
    return int(bool(failed))

"""almanac benchmark: our training step against plain PyTorch's, in turn, on this machine.

Each column is a process of its own on the same cores, and is asked for a handful of steps at a time while the others
are stopped (SIGSTOP): an idle one's threads cannot spin beside it. Before, both frameworks must agree on the number of
parameters and, from the same weights and batches in float32 without dropout, on the losses of the first three steps.
`generate` measures cached generation beside transformers, once both have said the same tokens; `input`, alone and with
options of its own, pictures read from files beside a training step.

Columns: eager and compile are PyTorch as installed, eager-alloc and compile-alloc have our settings of glibc's allocator.
"""

import argparse
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments import options
from research.cluster import device
from research.util.errors import UserError
from research.util.files import read_json, write_json
from tools.dev.bench import (
    bench_cases,
    bench_crowd,
    bench_generate,
    bench_measure,
    bench_peak,
    bench_tables,
    bench_terminal,
)
from tools.dev.bench.bench_tables import RESULTS
from tools.dev.bench.bench_workers import AGAINST, ROOT
from tools.root import BENCHMARKS_PAGE
from tools.verbs.reproduce import machine

NAMES = (*bench_cases.DEFAULT, bench_generate.NAME)
OUT_HELP = f"keep the results; without a name: {RESULTS.relative_to(ROOT)}/MACHINE.json"


def main(argv: Sequence[str]) -> int:
    if argv[:1] == ["input"]:
        from tools.dev.bench import bench_input  # imports JAX, which the process of the other measurements does not

        return bench_input.main(argv[1:])
    args, changes = options.overrides(argv, _parser())
    if args.tables:
        bench_tables.write_page(ROOT / BENCHMARKS_PAGE)
        return 0
    for option in ("rounds", "steps", "threads"):
        if (value := getattr(args, option)) is not None and value < 1:
            raise UserError(f"--{option}={value}: at least 1")
    names, against = args.names or list(NAMES), _against(args.against)
    for name in names:
        if name != bench_generate.NAME:
            bench_cases.find(name, [bench_generate.NAME])
    _needs(names, against)
    cores = bench_crowd.cores()
    plan = bench_measure.Plan(against, args.rounds, args.steps, _pin(args.threads), cores)
    crowd = {"before": _quiet(cores, args.crowded), "told": args.crowded}
    gemm = bench_peak.measure(plan.threads, bool(against))
    cases, generation = [], None
    for name in names:
        if name == bench_generate.NAME:
            generation = bench_generate.measure(plan, changes)
            text = bench_terminal.describe_generation(generation)
        else:
            case = bench_measure.measure(name, plan, changes)
            case |= {"gemm": bench_peak.best(gemm, case["dtype"]), **when()}
            text = bench_terminal.describe(case)
            cases.append(case)
        print(text, end="\n\n", flush=True)
        results = surroundings((cases or [generation])[0], plan.threads)
        results |= {"crowd": crowd, "gemm": gemm, "cases": cases, "generation": generation}
        if args.out is not None:  # after each, so that what was measured is kept if a later one fails
            path = Path(args.out or RESULTS / f"{slug(results['machine'], plan.threads)}.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, with_older(results, path))
    if args.out is not None:
        print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="almanac benchmark",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        epilog=f"cases: {', '.join(NAMES)}; for a GPU: {', '.join(bench_cases.GPU_ONLY)}",
    )
    columns = ",".join(AGAINST)
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases, or FAMILY/NAME; all cases but those for a GPU")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    seconds = f"{bench_measure.ROUND:g} s"
    parser.add_argument("--steps", type=int, metavar="N", help=f"a round; default: what takes us {seconds}")
    parser.add_argument("--threads", type=int, metavar="N", help="cores to use; default: all")
    parser.add_argument("--against", default=columns, metavar="COLUMN,...|none", help=f"default: {columns}")
    parser.add_argument("--crowded", action="store_true", help="measure although other processes use the machine")
    parser.add_argument("--out", nargs="?", const="", metavar="FILE.json", help=OUT_HELP)
    parser.add_argument("--tables", action="store_true", help=f"only write the tables of {BENCHMARKS_PAGE} anew")
    return parser


def _against(text: str) -> list[str]:
    names = [] if text == "none" else text.split(",")
    for name in names:
        if name not in AGAINST:
            raise UserError(f"--against={text}: some of {', '.join(AGAINST)} with commas between, or none")
    return [name for name in AGAINST if name in names]


def _needs(names: Sequence[str], against: Sequence[str]) -> None:
    """UserError where a package that is compared with is not installed."""
    if against and not _installed("torch"):
        raise UserError("PyTorch is not installed: pip install '.[bench]', or use --against none")
    if against and bench_generate.NAME in names and not _installed("transformers"):
        raise UserError("transformers is not installed: pip install '.[parity]', or leave generate out")


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _quiet(cores: Sequence[int], crowded: bool) -> float | None:
    """The share of the cores' time that other processes use now; UserError if it is too much and nobody said so."""
    share = bench_crowd.sample(cores)
    if share is None:
        print("this system does not tell whether other processes use the cores\n", file=sys.stderr)
    elif share > bench_crowd.LIMIT:
        what = f"other processes use {share:.0%} of the time of these {len(cores)} cores"
        if not crowded:
            raise UserError(
                f"{what}, more than {bench_crowd.LIMIT:.0%}: times would be worth nothing; end them, or use --crowded"
            )
        print(f"{what}: these times are not worth keeping\n", flush=True)
    return share


def _pin(threads: int | None) -> int:
    """Keeps this process, and those it starts, on the last `threads` of its cores."""
    if threads is None:
        return machine()["cores"]
    if not hasattr(os, "sched_setaffinity"):
        raise UserError(f"--threads={threads}: this system cannot pin a process to cores")
    cores = bench_crowd.cores()
    if threads > len(cores):
        raise UserError(f"--threads={threads}: this process may use {len(cores)} cores")
    os.sched_setaffinity(0, cores[-threads:])
    return threads


def with_older(results: dict[str, Any], path: Path) -> dict[str, Any]:
    """`results`, and the cases of `path` that were not measured again, if machine, threads and versions are the same."""
    older = read_json(path) if path.exists() else {}
    if any(older.get(key) != results[key] for key in ("machine", "threads", "python", "versions")):
        return results
    again = {case["name"] for case in results["cases"]}
    cases = [*results["cases"], *(case for case in older["cases"] if case["name"] not in again and "commit" in case)]
    order = [*NAMES, *bench_cases.GPU_ONLY]
    cases.sort(key=lambda case: order.index(case["name"]) if case["name"] in order else len(order))
    return {**results, "cases": cases, "generation": results["generation"] or older["generation"]}


def when() -> dict[str, str]:
    return {"commit": device.commit(), "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}


def surroundings(about: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """What the times depend on, apart from the code."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers")
    accelerator = about["device"] if about["platform"] != "cpu" else None
    return {
        "machine": machine() | {"accelerator": accelerator},
        "system": platform.platform(terse=True),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages if _installed(name)},
        **when(),
        "tf32": accelerator is not None and accelerator.startswith("NVIDIA"),
    }


def slug(where: Mapping[str, Any], threads: int) -> str:
    """A machine's file name: `amd-epyc-2-threads`."""
    name = where["accelerator"] or f"{where['cpu']} {threads} threads"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")

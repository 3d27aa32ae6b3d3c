"""`almanac benchmark`: compares our training step with plain PyTorch's, in alternating rounds on this machine.

Each column is a process on the same cores, which runs a few steps at a time while the others are stopped (SIGSTOP), so
that their idle threads do not spin. First, both frameworks must agree on the number of parameters and, from the same
weights and batches in float32 without dropout, on the losses of the first three steps. `generate` compares cached
generation with transformers, after both have generated the same tokens. Alone and with options of their own, `input`
measures images read from files during training, `serve` requests of mixed lengths to a server, and `monitor` the false alarms
and delays of `almanac monitor`.

Columns: eager and compile are PyTorch as installed; eager-alloc and compile-alloc have our settings of glibc's allocator.
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
    bench_serve,
    bench_tables,
    bench_terminal,
)
from tools.dev.bench.bench_tables import RESULTS
from tools.dev.bench.bench_workers import AGAINST, ROOT
from tools.root import BENCHMARKS_PAGE
from tools.verbs.reproduce import machine

NAMES = (*bench_cases.DEFAULT, bench_generate.NAME)
OUT_HELP = f"write the results; without a name: {RESULTS.relative_to(ROOT)}/MACHINE.json"


def main(argv: Sequence[str]) -> int:
    if argv[:1] == ["input"]:
        from tools.dev.bench import (
            bench_input,
        )  # imports JAX, which this process must not do for the other measurements

        return bench_input.main(argv[1:])
    if argv[:1] == ["monitor"]:
        from tools.dev.bench import bench_monitor  # imports JAX, too

        return bench_monitor.main(argv[1:])
    if argv[:1] == ["serve"]:
        return bench_serve.main(argv[1:])
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
    _require_packages(names, against)
    cores = bench_crowd.cores()
    plan = bench_measure.Plan(against, args.rounds, args.steps, _set_affinity(args.threads), cores)
    crowd = {"before": _check_idle(cores, args.crowded), "told": args.crowded}
    gemm = bench_peak.measure(plan.threads, bool(against))
    cases, generation = [], None
    for name in names:
        if name == bench_generate.NAME:
            generation = bench_generate.measure(plan, changes)
            text = bench_terminal.describe_generation(generation)
        else:
            case = bench_measure.measure(name, plan, changes)
            case |= {"gemm": bench_peak.best(gemm, case["dtype"]), **commit_and_time()}
            text = bench_terminal.describe(case)
            cases.append(case)
        print(text, end="\n\n", flush=True)
        results = environment((cases or [generation])[0], plan.threads)
        results |= {"crowd": crowd, "gemm": gemm, "cases": cases, "generation": generation}
        if args.out is not None:  # after each case, so that results are kept if a later one fails
            path = Path(args.out or RESULTS / f"{slug(results['machine'], plan.threads)}.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, merge_older(results, path))
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
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="cases, or FAMILY/NAME; default: all cases except those for a GPU"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    seconds = f"{bench_measure.ROUND:g} s"
    parser.add_argument(
        "--steps", type=int, metavar="N", help=f"steps per round; default: as many as take us {seconds}"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="number of cores; default: all")
    parser.add_argument("--against", default=columns, metavar="COLUMN,...|none", help=f"default: {columns}")
    parser.add_argument("--crowded", action="store_true", help="measure even if other processes use the machine")
    parser.add_argument("--out", nargs="?", const="", metavar="FILE.json", help=OUT_HELP)
    parser.add_argument("--tables", action="store_true", help=f"only rewrite the tables of {BENCHMARKS_PAGE}")
    return parser


def _against(text: str) -> list[str]:
    """The value of --against -> columns, in the order of AGAINST. Raises UserError for an unknown one."""
    names = [] if text == "none" else text.split(",")
    for name in names:
        if name not in AGAINST:
            raise UserError(f"--against={text}: some of {', '.join(AGAINST)}, separated by commas, or none")
    return [name for name in AGAINST if name in names]


def _require_packages(names: Sequence[str], against: Sequence[str]) -> None:
    """Raises UserError if a package to compare with is not installed."""
    if against and not _installed("torch"):
        raise UserError("PyTorch is not installed: pip install '.[bench]', or use --against none")
    if against and bench_generate.NAME in names and not _installed("transformers"):
        raise UserError("transformers is not installed: pip install '.[parity]', or skip generate")


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _check_idle(cores: Sequence[int], crowded: bool) -> float | None:
    """The share of the cores' time that other processes use now; None if unknown.

    Raises UserError if it is above the limit, unless `crowded`.
    """
    share = bench_crowd.sample(cores)
    if share is None:
        print("this system does not report whether other processes use the cores\n", file=sys.stderr)
    elif share > bench_crowd.LIMIT:
        fault = f"other processes use {share:.0%} of the time of these {len(cores)} cores"
        if not crowded:
            raise UserError(
                f"{fault}, more than {bench_crowd.LIMIT:.0%}: times would be meaningless; end them, or use --crowded"
            )
        print(f"{fault}: these times are not worth keeping\n", flush=True)
    return share


def _set_affinity(threads: int | None) -> int:
    """Restricts this process, and those it starts, to the last `threads` of its cores -> the number of cores.

    Raises UserError if there are fewer, or the system cannot do it.
    """
    if threads is None:
        return machine()["cores"]
    if not hasattr(os, "sched_setaffinity"):
        raise UserError(f"--threads={threads}: this system cannot restrict a process to some cores")
    cores = bench_crowd.cores()
    if threads > len(cores):
        raise UserError(f"--threads={threads}: this process may use {len(cores)} cores")
    os.sched_setaffinity(0, cores[-threads:])
    return threads


def merge_older(results: dict[str, Any], path: Path) -> dict[str, Any]:
    """`results`, with the cases in `path` that were not measured again, if machine, threads and versions are the same."""
    older = read_json(path) if path.exists() else {}
    if any(older.get(key) != results[key] for key in ("machine", "threads", "python", "versions")):
        return results
    measured = {case["name"] for case in results["cases"]}
    cases = [*results["cases"], *(case for case in older["cases"] if case["name"] not in measured and "commit" in case)]
    order = [*NAMES, *bench_cases.GPU_ONLY]
    cases.sort(key=lambda case: order.index(case["name"]) if case["name"] in order else len(order))
    return {**results, "cases": cases, "generation": results["generation"] or older["generation"]}


def commit_and_time() -> dict[str, str]:
    """{"commit", "measured": the time in UTC}."""
    return {"commit": device.commit(), "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}


def environment(about: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """What times depend on apart from the code: machine, system, threads, versions. `about` is a case's "platform", "device"."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers")
    accelerator = about["device"] if about["platform"] != "cpu" else None
    return {
        "machine": machine() | {"accelerator": accelerator},
        "system": platform.platform(terse=True),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages if _installed(name)},
        **commit_and_time(),
        "tf32": accelerator is not None and accelerator.startswith("NVIDIA"),
    }


def slug(machine: Mapping[str, Any], threads: int) -> str:
    """The name of a machine's file of results.

    >>> slug({"accelerator": None, "cpu": "AMD EPYC"}, 2)
    'amd-epyc-2-threads'
    """
    name = machine["accelerator"] or f"{machine['cpu']} {threads} threads"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")

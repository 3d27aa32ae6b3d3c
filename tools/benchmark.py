"""almanac benchmark: our training step against plain PyTorch's, in turn, on this machine.

Each framework lives in a process of its own on the same cores, and is asked for a handful of steps
at a time while the others are stopped (SIGSTOP): an idle one's threads cannot spin beside it.
Before, both must agree on the number of parameters and, from the same weights and batches in
float32 without dropout, on the losses of the first three steps.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from experiments import options
from research.core import config
from research.host import device
from research.host.errors import UserError, nearest
from research.host.records import read_json, write_json, write_text
from tools.reproduce import machine

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "tools" / "benchmark_results"
BEGIN, END = "<!-- benchmark -->", "<!-- /benchmark -->"
TITLES = {"ours": "Almanac", "eager": "PyTorch, eager", "compile": "torch.compile"}
CLOSE, AFTER = 1e-4, 1e-2  # nats that the first losses may be apart, and those after an update
ROUND = 3.0  # seconds of our steps in a round, where --steps is not given
OUT_HELP = f"keep the results; without a name: {RESULTS.relative_to(ROOT)}/MACHINE.json"


@dataclasses.dataclass(frozen=True)
class Case:
    """A config, its overrides (`cpu`: on a CPU only), and the shape of random pictures."""

    config: str
    overrides: tuple[str, ...] = ()
    cpu: tuple[str, ...] = ()
    random: tuple[int, ...] = ()


_LARGE = ("language_model/shakespeare_char", ("data.source=pydoc",), ("data.batch_size=8",))
_RESNET = ("model.name=resnet", "model.depth=20", "model.form=cifar", "optim.weight_decay=1e-4")
CASES = {
    "gpt": Case("language_model/pydoc_char"),
    "gpt-large": Case(_LARGE[0], (*_LARGE[1], "dtype=float32"), _LARGE[2]),
    "gpt-large-bfloat16": Case(*_LARGE),
    "convnet": Case("image_classification/mnist_cnn", random=(28, 28, 1)),
    "resnet20": Case("image_classification/mnist_cnn", _RESNET, random=(28, 28, 1)),
}


# ---- Processes


class Worker:
    """A framework's process. It runs only while it is asked for something."""

    def __init__(self, kind: str, folder: Path, cache: Path, threads: int):
        self.kind, self._log, self._began = kind, folder / f"{kind}.log", time.perf_counter()
        env = {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
            "TORCHINDUCTOR_CACHE_DIR": str(cache),
            "OMP_NUM_THREADS": str(threads),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # they share one accelerator
        }
        command = [sys.executable, "-m", "tools.bench_steps", kind, str(folder)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def ask(self, *words: Any) -> dict[str, Any]:
        """One command -> its answer; the process is stopped from then on."""
        process = self._process
        assert process.stdin and process.stdout
        process.send_signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            print(*words, file=process.stdin, flush=True)
        line = process.stdout.readline()
        if not line:
            said = self._log.read_text().strip().splitlines() or ["it said nothing"]
            less = "" if self.kind == "ours" else "; leave it out by --against"
            raise UserError(f"{TITLES[self.kind]} failed: {said[-1]}{less}")
        process.send_signal(signal.SIGSTOP)
        answer = json.loads(line)
        if "error" in answer:
            raise UserError(answer["error"])
        return answer

    def start(self) -> float:
        """Seconds from the beginning of the process to the end of its first step."""
        self.ask("start")
        return time.perf_counter() - self._began

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def worker(kind: str, folder: Path, cache: str, threads: int) -> Iterator[Worker]:
    """A process with the compilation cache FOLDER/CACHE."""
    made = Worker(kind, folder, folder / cache, threads)
    try:
        yield made
    finally:
        made.close()


# ---- Measuring


def measure(
    name: str,
    against: Sequence[str],
    rounds: int,
    steps: int | None,
    changes: Sequence[str],
    threads: int,
) -> dict[str, Any]:
    """A case, or any config -> what the JSON says of it: for each round its steps' median time."""
    case = CASES.get(name) or Case(name)
    _known(name, case)
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as processes:
        folder = Path(made)
        prepare(case, folder, changes, threads)
        about = agree(folder, against, threads)
        live: dict[str, Worker] = {}
        found: dict[str, dict] = {}
        for kind in ("ours", *against):
            with worker(kind, folder, f"cache_{kind}", threads) as fresh:
                cold = fresh.start()
            live[kind] = processes.enter_context(worker(kind, folder, f"cache_{kind}", threads))
            found[kind] = {"first_step_s": {"cold": cold, "warm": live[kind].start()}, "ms": []}
        steps = steps or _fitting(live["ours"])
        found["ours"]["wait_ms"] = []
        for _ in range(rounds):
            for kind, process in live.items():
                answer = process.ask("steps", steps)
                found[kind]["ms"].append(median(answer["ms"]))
                if kind == "ours":
                    found[kind]["wait_ms"].append(answer["wait_ms"])
        for kind, process in live.items():
            found[kind] |= process.ask("memory")
    return {"name": name, "config": case.config, "steps": steps, **about, "frameworks": found}


def _known(name: str, case: Case) -> None:
    if case.config not in config.names():
        raise UserError(f"nothing to measure is named {name!r}{nearest(name, [*CASES])}")


def prepare(case: Case, folder: Path, changes: Sequence[str], threads: int) -> None:
    """Leaves what the processes are to build in the folder: case.json, and made-up pictures."""
    overrides = list(case.overrides)
    if case.random:
        rng, path = np.random.default_rng(0), folder / "data.npz"
        images = rng.integers(0, 256, (10_000, *case.random), np.uint8)
        np.savez(path, images=images, labels=rng.permutation(10_000) % 10)
        overrides += ["data.source=arrays", f"data.path={path}"]
    told = {"config": case.config, "overrides": overrides, "cpu": case.cpu, "changes": changes}
    write_json(folder / "case.json", told | {"threads": threads})


def agree(folder: Path, against: Sequence[str], threads: int) -> dict[str, Any]:
    """What our process says of the experiment; UserError if PyTorch's computes something else."""
    with worker("ours", folder, "cache_check", threads) as ours:
        about = ours.ask("check")
    if not against:
        return about
    if about["platform"] not in ("cpu", "gpu"):
        raise UserError(f"PyTorch is not measured on a {about['platform']}; use --against none")
    with worker("eager", folder, "cache_check", threads) as twin:
        theirs = twin.ask("check")
    if theirs["parameters"] != about["parameters"]:
        raise UserError(
            f"not the same model: {about['parameters']:,} parameters in ours, {theirs['parameters']:,} in PyTorch's"
        )
    for step, (a, b) in enumerate(zip(about["losses"], theirs["losses"], strict=True)):
        if not abs(a - b) <= (CLOSE if step == 0 else AFTER):
            raise UserError(
                f"not the same computation: at step {step} our loss is {a:.6f} nats, PyTorch's "
                f"{b:.6f}, from the same weights and batches"
            )
    return about | {"torch_losses": theirs["losses"]}


def _fitting(ours: Worker) -> int:
    """Steps that fill a round."""
    ms = median(ours.ask("steps", 3)["ms"])
    return int(min(max(1e3 * ROUND / ms, 5), 200))


def surroundings(about: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """What the times depend on, apart from the code."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")
    found = {name: metadata.version(name) for name in packages if _installed(name)}
    accelerator = about["device"] if about["platform"] != "cpu" else None
    return {
        "machine": machine() | {"accelerator": accelerator},
        "system": platform.platform(terse=True),
        "threads": threads,
        "python": platform.python_version(),
        "versions": found,
        "commit": device.commit(),
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "tf32": accelerator is not None and accelerator.startswith("NVIDIA"),
    }


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


# ---- Telling


class Row(NamedTuple):
    """A framework's numbers in one case, from its raw times."""

    ms: tuple[float, float, float]  # median, least, most over the rounds
    ratio: tuple[float, float, float]  # of its time to ours, round by round
    speed: float  # tokens or images a second
    flops: float  # FLOP/s, of our count
    mfu: float | None
    cold: float  # seconds to the end of the first step
    warm: float
    memory: int  # bytes
    wait: float | None  # share of a step that the loop waited for its batch


def row(case: Mapping[str, Any], kind: str) -> Row:
    found, ours = case["frameworks"][kind], case["frameworks"]["ours"]
    middle = median(found["ms"])
    rate = case["flops"] / middle * 1e3
    return Row(
        ms=_spread(found["ms"]),
        ratio=_spread([a / b for a, b in zip(found["ms"], ours["ms"], strict=True)]),
        speed=case["units"] / middle * 1e3,
        flops=rate,
        mfu=rate / case["peak"] if case["peak"] else None,
        cold=found["first_step_s"]["cold"],
        warm=found["first_step_s"]["warm"],
        memory=found["device_memory"] or found["rss"],
        wait=median(found["wait_ms"]) / middle if "wait_ms" in found else None,
    )


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return median(values), min(values), max(values)


def describe(case: Mapping[str, Any]) -> str:
    """One case for a terminal: a line about it, then aligned columns."""
    rows = [("", "ms a step", "x ours", f"{case['unit']}/s", "GFLOP/s", "MFU", "first step s", "MB")]
    for kind in case["frameworks"]:
        r = row(case, kind)
        ratio = _range(r.ratio, 3) if kind != "ours" else ""
        mfu = f"{r.mfu:.1%}" if r.mfu is not None else "-"
        first = f"{r.cold:.1f}, then {r.warm:.1f}"
        cells = (_range(r.ms, 3), ratio, f"{r.speed:,.0f}", f"{r.flops / 1e9:,.1f}", mfu, first)
        rows.append((TITLES[kind], *cells, f"{r.memory / 1e6:,.0f}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]) for cells in rows]
    wait = row(case, "ours").wait
    head = (
        f"{case['name']}  {case['parameters']:,} parameters, batch {_batch(case)}, "
        f"{case['dtype']}, {case['flops'] / 1e9:,.2f} GFLOP a step\n"
        f"{len(case['frameworks']['ours']['ms'])} rounds of {case['steps']} steps; "
        f"our loop waits {wait:.1%} of a step for data"
    )
    return "\n".join([head, *(f"  {line}".rstrip() for line in lines)])


def _batch(case: Mapping[str, Any]) -> str:
    return " x ".join(map(str, case["batch"]))


def _range(values: tuple[float, float, float], digits: int) -> str:
    middle, low, high = (_number(v, digits) for v in values)
    return f"{middle} ({low} to {high})"


def _number(value: float, digits: int) -> str:
    """`digits` significant digits, and never an exponent."""
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{decimals}f}"


def table(results: Mapping[str, Any]) -> str:
    """The JSON of one machine -> a Markdown table, and below it what it was measured on."""
    against = [k for k in TITLES if k != "ours" and k in results["cases"][0]["frameworks"]]
    head = [
        "model",
        "batch",
        "compute",
        *(f"{TITLES[kind]}, ms a step" for kind in ("ours", *against)),
        *(f"{TITLES[kind]} ÷ Almanac" for kind in against),
        "first step, s: cold, warm",
        "peak memory, MB",
    ]
    lines = [head, ["---"] * len(head)]
    for case in results["cases"]:
        rows = {kind: row(case, kind) for kind in ("ours", *against)}
        lines.append(
            [
                f"{case['name']}, {case['parameters'] / 1e6:.2f} M",
                _batch(case).replace(" x ", "×"),
                case["dtype"],
                *(_range(r.ms, 3) for r in rows.values()),
                *(_range(rows[kind].ratio, 3) for kind in against),
                "; ".join(f"{r.cold:.1f}, {r.warm:.1f}" for r in rows.values()),
                "; ".join(f"{r.memory / 1e6:,.0f}" for r in rows.values()),
            ]
        )
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n\n" + _note(results)


def _note(results: Mapping[str, Any]) -> str:
    where, versions = results["machine"], results["versions"]
    accelerator = f"{where['accelerator']}, " if where["accelerator"] else ""
    tf32 = " TF32 is on in both." if results["tf32"] else ""
    torch = f", PyTorch {versions['torch']}" if "torch" in versions else ""
    return (
        f"{accelerator}{where['cpu']}, {results['threads']} threads; JAX {versions['jax']}{torch}; "
        f"{results['measured']}, commit {results['commit']}. Medians of alternating rounds, least "
        f"and most in brackets; several in one cell are in the order of the times' columns. Memory is "
        f"{'the device' if accelerator else 'the process'}'s.{tf32}"
    )


def write_readme(path: Path, folder: Path = RESULTS) -> None:
    """The tables of every committed JSON between the README's markers."""
    text, files = path.read_text(encoding="utf-8"), sorted(folder.glob("*.json"))
    if not files:
        raise UserError(f"{folder} holds no results: almanac benchmark --out writes them")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise UserError(f"{path}: wants one line {BEGIN} and, after it, one line {END}")
    head, rest = text.split(BEGIN)
    tables = "\n\n".join(table(read_json(file)) for file in files)
    write_text(path, f"{head}{BEGIN}\n\n{tables}\n\n{END}{rest.split(END)[1]}")


def slug(where: Mapping[str, Any], threads: int) -> str:
    """A machine's file name: `amd-epyc-2-threads`."""
    name = where["accelerator"] or f"{where['cpu']} {threads} threads"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


# ---- The command


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac benchmark",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        epilog=f"cases: {', '.join(CASES)}",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases, or FAMILY/NAME; all cases")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="default: 7")
    parser.add_argument("--steps", type=int, metavar="N", help=f"a round; default: what takes us {ROUND:g} s")
    parser.add_argument("--threads", type=int, metavar="N", help="cores to use; default: all")
    parser.add_argument("--against", default="eager,compile", metavar="eager,compile|none", help="default: both")
    parser.add_argument("--out", nargs="?", const="", metavar="FILE.json", help=OUT_HELP)
    parser.add_argument("--readme", action="store_true", help="only write README.md's table anew")
    args, changes = options.overrides(argv, parser)
    if args.readme:
        write_readme(ROOT / "README.md")
        return 0
    for option in ("rounds", "steps", "threads"):
        if (value := getattr(args, option)) is not None and value < 1:
            raise UserError(f"--{option}={value}: at least 1")
    against = _against(args.against)
    threads = _pin(args.threads)
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"the machine is busy (load {load:.1f}): these times are not worth keeping\n")
    cases = []
    for name in args.names or CASES:
        case = measure(name, against, args.rounds, args.steps, changes, threads)
        print(describe(case), end="\n\n", flush=True)
        cases.append(case)
    results = surroundings(cases[0], threads) | {"load": round(load, 2), "cases": cases}
    if args.out is not None:
        path = Path(args.out or RESULTS / f"{slug(results['machine'], threads)}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, results)
        print(path)
    return 0


def _against(text: str) -> list[str]:
    names = [] if text == "none" else text.split(",")
    for name in names:
        if name not in TITLES or name == "ours":
            raise UserError(f"--against={text}: eager, compile, both with a comma, or none")
    if names and not _installed("torch"):
        raise UserError("PyTorch is not installed: pip install '.[bench]', or use --against none")
    return names


def _pin(threads: int | None) -> int:
    """Keeps this process, and those it starts, on the last `threads` of its cores."""
    if threads is None:
        return machine()["cores"]
    if not hasattr(os, "sched_setaffinity"):
        raise UserError(f"--threads={threads}: this system cannot pin a process to cores")
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        raise UserError(f"--threads={threads}: this process may use {len(cores)} cores")
    os.sched_setaffinity(0, cores[-threads:])
    return threads

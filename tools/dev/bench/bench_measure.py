"""Measuring a case of `almanac benchmark`: what must agree first, then rounds of steps, each column in its turn."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from research.util.errors import UserError
from tools.dev.bench import bench_cases, bench_crowd
from tools.dev.bench.bench_workers import SAME, Worker, worker

CLOSE, AFTER = 1e-4, 1e-2  # nats that the first losses may be apart, and those after an update
ROUND = 1.5  # seconds of our steps in a round, where --steps is not given
AROUND = 1.0  # seconds of steps before and after a checkpoint


class Plan(NamedTuple):
    """How to measure: `steps` a round (None: what takes us ROUND seconds), `cores` are those watched for others."""

    against: Sequence[str]
    rounds: int
    steps: int | None
    threads: int
    cores: Sequence[int]


def measure(name: str, plan: Plan, changes: Sequence[str]) -> dict[str, Any]:
    """A case, or any config -> what the JSON says of it: for each round its steps' median time."""
    case = bench_cases.find(name)
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as processes:
        folder = Path(made)
        bench_cases.prepare(case, folder, changes, plan.threads)
        about = agree(folder, plan.against, plan.threads)
        kinds = ["ours", *columns(plan.against, about["allocator"])]
        live: dict[str, Worker] = {}
        frameworks: dict[str, dict] = {}
        for kind in kinds:
            live[kind], first = _started(kind, folder, plan.threads, processes)
            frameworks[kind] = {"first_step_s": first, "ms": [], "others": []}
        steps = plan.steps or _fitting(live["ours"], ROUND, 2)
        frameworks["ours"]["wait_ms"] = []
        for _ in range(plan.rounds):
            for kind, process in live.items():
                answer, share = _watched(process, plan.cores, "steps", steps)
                frameworks[kind]["ms"].append(median(answer["ms"]))
                frameworks[kind]["others"].append(share)
                if kind == "ours":
                    frameworks[kind]["wait_ms"].append(answer["wait_ms"])
        for kind, process in live.items():
            frameworks[kind] |= process.ask("memory")
        checkpoint = live["ours"].ask("save", _fitting(live["ours"], AROUND, 2))
    return {
        "name": name,
        "config": case.config,
        "changes": list(changes),
        "steps": steps,
        **about,
        "frameworks": frameworks,
        "checkpoint": checkpoint,
    }


def columns(against: Sequence[str], allocator: bool) -> list[str]:
    """Those of `against` that can be measured: without our allocator settings here, none that has them."""
    return [kind for kind in against if allocator or not kind.endswith(SAME)]


def _started(kind: str, folder: Path, threads: int, stack: contextlib.ExitStack) -> tuple[Worker, dict[str, Any]]:
    """-> a process that has done its first step, and the seconds that it took with a cold and with a warm cache.

    Eager PyTorch keeps nothing from one start to the next, and the allocator changes no cache: they start once.
    """
    cold = None
    if kind in ("ours", "compile"):
        with worker(kind, folder, threads) as fresh:
            cold = fresh.start()
    made = stack.enter_context(worker(kind, folder, threads))
    return made, {"cold": cold, "warm": made.start()}


def agree(folder: Path, against: Sequence[str], threads: int) -> dict[str, Any]:
    """What our process says of the experiment; UserError if PyTorch's computes something else."""
    with worker("ours", folder, threads, "cache_check") as ours:
        about = ours.ask("check")
    if not against:
        return about
    if about["platform"] not in ("cpu", "gpu"):
        raise UserError(f"PyTorch is not measured on a {about['platform']}; use --against none")
    with worker("eager", folder, threads, "cache_check") as twin:
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


def _fitting(ours: Worker, seconds: float, least: int) -> int:
    """Our steps that fill so many seconds."""
    ms = median(ours.ask("steps", 3)["ms"])
    return int(min(max(1e3 * seconds / ms, least), 200))


def _watched(process: Worker, cores: Sequence[int], *words: Any) -> tuple[dict[str, Any], float | None]:
    """A command's answer, and the share of the cores' time that processes other than ours used meanwhile."""
    before = bench_crowd.read(cores, [process.pid])
    answer = process.ask(*words)
    return answer, bench_crowd.others(before, bench_crowd.read(cores, [process.pid]), len(cores))

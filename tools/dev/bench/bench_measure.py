"""Measures a case of `almanac benchmark`: checks that the columns agree, then runs rounds of steps, one column at a time."""

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from research.util.errors import UserError
from tools.dev.bench import bench_cases, bench_crowd
from tools.dev.bench.bench_workers import OUR_ALLOCATOR, TITLES, Worker, worker

FIRST_TOLERANCE, LATER_TOLERANCE = 1e-4, 1e-2  # nats, between the first losses and between those after an update
ROUND = 1.5  # seconds of our steps in a round, without --steps
CHECKPOINT_SECONDS = 1.0  # seconds of steps before and after a checkpoint


class Plan(NamedTuple):
    """The columns, the number of rounds, the steps per round (None: ROUND seconds of ours), the threads, and the cores that are
    checked for other processes."""

    against: Sequence[str]
    rounds: int
    steps: int | None
    threads: int
    cores: Sequence[int]


def measure(name: str, plan: Plan, changes: Sequence[str]) -> dict[str, Any]:
    """Measures a case, or any config -> its entry in the results: for each column and round the median time of the steps.

    Raises UserError if there is no such case, or the columns do not agree.
    """
    case = bench_cases.find(name)
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as processes:
        folder = Path(temporary)
        with _told(f"{name}: data"):
            bench_cases.prepare(case, folder, changes, plan.threads)
        about = agree(folder, plan.against, plan.threads)
        kinds = ["ours", *columns(plan.against, about["allocator"])]
        workers: dict[str, Worker] = {}
        frameworks: dict[str, dict] = {}
        for kind in kinds:
            with _told(f"first step of {TITLES[kind]}"):
                workers[kind], first_step = _start(kind, folder, plan.threads, processes)
            frameworks[kind] = {"first_step_s": first_step, "ms": [], "others": []}
        steps = plan.steps or _steps_in(workers["ours"], ROUND, 2)
        frameworks["ours"]["wait_ms"] = []
        with _told(f"{plan.rounds} rounds of {steps} steps"):
            for _ in range(plan.rounds):
                for kind, process in workers.items():
                    answer, share = _ask_and_sample(process, plan.cores, "steps", steps)
                    frameworks[kind]["ms"].append(median(answer["ms"]))
                    frameworks[kind]["others"].append(share)
                    if kind == "ours":
                        frameworks[kind]["wait_ms"].append(answer["wait_ms"])
        for kind, process in workers.items():
            frameworks[kind] |= process.ask("memory")
        with _told("checkpoints"):
            checkpoint = workers["ours"].ask("save", _steps_in(workers["ours"], CHECKPOINT_SECONDS, 2))
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
    """The columns of `against` that can be measured here; without our allocator settings, none that uses them.

    >>> columns(["eager", "eager-alloc"], allocator=False)
    ['eager']
    """
    return [kind for kind in against if allocator or not kind.endswith(OUR_ALLOCATOR)]


def _start(kind: str, folder: Path, threads: int, stack: contextlib.ExitStack) -> tuple[Worker, dict[str, Any]]:
    """-> a process that has done its first step, and the seconds until then with a cold and with a warm compilation cache.

    Only columns that compile have a cache; eager PyTorch and the columns with another allocator are started once.
    """
    cold = None
    if kind in ("ours", "compile"):
        with worker(kind, folder, threads) as fresh:
            cold = fresh.start()
    process = stack.enter_context(worker(kind, folder, threads))
    return process, {"cold": cold, "warm": process.start()}


def agree(folder: Path, against: Sequence[str], threads: int) -> dict[str, Any]:
    """The description of the experiment by our process. Raises UserError if PyTorch's model or losses differ from ours."""
    with _told("first losses of Almanac"), worker("ours", folder, threads, "cache_check") as ours:
        about = ours.ask("check")
    if not against:
        return about
    if about["platform"] not in ("cpu", "gpu"):
        raise UserError(f"PyTorch is not measured on a {about['platform']}; use --against none")
    with _told("first losses of PyTorch"), worker("eager", folder, threads, "cache_check") as eager:
        theirs = eager.ask("check")
    if theirs["parameters"] != about["parameters"]:
        raise UserError(
            f"not the same model: {about['parameters']:,} parameters in ours, {theirs['parameters']:,} in PyTorch's"
        )
    for step, (a, b) in enumerate(zip(about["losses"], theirs["losses"], strict=True)):
        if not abs(a - b) <= (FIRST_TOLERANCE if step == 0 else LATER_TOLERANCE):
            raise UserError(
                f"not the same computation: at step {step} our loss is {a:.6f} nats, PyTorch's "
                f"{b:.6f}, from the same weights and batches"
            )
    return about | {"torch_losses": theirs["losses"]}


def _steps_in(ours: Worker, seconds: float, least: int) -> int:
    """The number of our steps in so many seconds, at least `least` and at most 200."""
    ms = median(ours.ask("steps", 3)["ms"])
    return int(min(max(1e3 * seconds / ms, least), 200))


def _ask_and_sample(process: Worker, cores: Sequence[int], *words: Any) -> tuple[dict[str, Any], float | None]:
    """-> the answer to a command, and the share of the cores' time that other processes used meanwhile."""
    before = bench_crowd.read(cores, [process.pid])
    answer = process.ask(*words)
    return answer, bench_crowd.others(before, bench_crowd.read(cores, [process.pid]), len(cores))


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Says on stderr what is being done, and then how many seconds it took: a large case takes minutes."""
    start = time.perf_counter()
    print(f"{what} ...", end="", file=sys.stderr, flush=True)
    yield
    print(f" {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)

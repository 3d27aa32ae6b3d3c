"""Memory, threads, files and step time of a long run, and the cost of logging, saving and waiting for batches in a usual run."""

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from research.util.errors import UserError
from research.util.files import read_json
from tools.dev.stress_cases.stress_child import bare
from tools.dev.stress_cases.stress_process import TrainingProcess, lines

LONG = "language_model/tiny"
EVERY = dict(log_every=20, save_every=500, eval_every=1_000)
# Unchanged except for its length, and without evaluations, which are neither logging nor saving.
USUAL = "language_model/pydoc_char"
BLOCK = 250  # its save_every; after half a block, blocks with and without logging and saving alternate
USUAL_STEPS = BLOCK // 2 + 8 * BLOCK
PARTS = ("log", "save", "batch")
WARM = 3  # log intervals to skip, in which each part imports or compiles for the first time
SAMPLES = 300
ABOUT = (
    "long: sampled from /proc at equal numbers of steps; step times from timing.jsonl, with evaluations and saves. Memory and "
    "time: medians of the first third and of the last; threads and files: minima of the second third and of the last, because "
    "pools grow in the first, and a save uses threads and files for a moment. usual: host is the time that the loop spent in "
    "logging, saving and waiting for batches, while the device was working; idle is the time from when a step's result was ready "
    "(as seen by a thread that waits for each) to the call of the next step, summed over steps after a log, a save, or neither; "
    "bare is the time of a block of steps that are neither logged nor saved, between blocks that are, in the same process. The "
    "host is ahead of the device: most of its time in logging is waiting for values of an earlier interval, which is not a cost"
)


def measure(names: Sequence[str], count: int, seed: int, folder: Path, say: Callable[[str], Any] = print) -> dict:
    """Trains `count` steps of a tiny model, then measures the costs in a usual run."""
    del names, seed  # always the same language models
    long = steady(folder / "long", count)
    say(f"{count:,} steps: {long}")
    usual = costs(folder / "usual", USUAL, min(USUAL_STEPS, count), BLOCK)
    say(f"{USUAL}: {usual}")
    return {"about": ABOUT, "cases": [long], "usual": usual}


def faults(results: dict) -> list[str]:
    """One line for each quantity that grows. The step time is only reported, because the machine may have been busy."""
    (long,) = results["cases"]
    grown = {k: long[k][1] - long[k][0] for k in ("threads", "files")}
    lines = [f"{count:g} more {k} in the last third" for k, count in grown.items() if count > 0]
    if (growth := long["rss_mb"][1] - long["rss_mb"][0]) > (limit := max(16.0, 0.05 * long["rss_mb"][0])):
        lines.append(f"{growth:.0f} MB more in the last third; {limit:.0f} are allowed")
    return lines


# ---- A long run


def steady(workdir: Path, steps: int) -> dict[str, Any]:
    """Trains a tiny model -> its memory, threads, open files and step time, each as [early, late]; see ABOUT.

    Raises UserError if the system has no /proc or the run fails.
    """
    if not Path("/proc/self/status").exists():
        raise UserError(f"stress flat reads /proc, which {os.uname().sysname} does not have; skip it")
    words = [f"--config.num_steps={steps}", *(f"--config.{k}={v}" for k, v in EVERY.items())]
    stride, samples = max(1, steps // SAMPLES), []
    with TrainingProcess(LONG, workdir, *words, phases=True) as process:
        for line in process.lines():
            phase, *number = line.split()
            if number and int(number[0]) % stride == 0:
                samples.append(_resources(process.popen.pid))
        if problem := process.problem(0):
            raise UserError(f"{workdir} {problem}; see {process.log}")
    memory, threads, files = ([sample[i] for sample in samples] for i in range(3))
    resources = {"rss_mb": _medians(memory), "threads": _minima(threads), "files": _minima(files)}
    return {"name": LONG, "steps": steps, **EVERY, **resources, "step_ms": _medians(_step_times(workdir))}


def _resources(pid: int) -> tuple[float, int, int]:
    """A process's resident memory in MB, its threads and its open files."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1e3, int(status["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))


def _medians(values: Sequence[float]) -> list[float]:
    """The medians of the first third and of the last.

    >>> _medians([1, 2, 3, 4, 5, 6])
    [1.5, 5.5]
    """
    third = max(1, len(values) // 3)
    return [median(values[:third]), median(values[-third:])]


def _minima(values: Sequence[float]) -> list[float]:
    """The minima of the second third and of the last."""
    third = max(1, len(values) // 3)
    return [min(values[-2 * third : -third] or values), min(values[-third:])]


def _step_times(workdir: Path) -> list[float]:
    """Milliseconds per step between log lines, from the first line on, so without compilation."""
    rows = [(line["step"], line["seconds"]) for line in lines(workdir / "timing.jsonl")]
    return [1e3 * (b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(rows)]


# ---- What logging, saving and waiting cost


def costs(workdir: Path, name: str, steps: int, block: int) -> dict[str, Any]:
    """Trains `steps` steps, every second block without logging and saving -> the results of `shares` and `blocks`."""
    path = workdir.with_name(f"{workdir.name}_times.json")
    words = [f"--config.num_steps={steps}", f"--config.save_every={block}", "--config.eval_every=0"]
    with TrainingProcess(name, workdir, *words, times=str(path), bare=block) as process:
        if problem := process.problem(0):
            raise UserError(f"{workdir} {problem}; see {process.log}")
    times = read_json(path)
    intervals = {part: read_json(workdir / "config.json")["config"][f"{part}_every"] for part in ("save", "log")}
    return {
        "name": name,
        "steps": steps,
        "overrides": words,
        **shares(times, block, intervals),
        "block_ms": blocks(times, block),
    }


def shares(times: dict[str, list], block: int, intervals: dict[str, int]) -> dict[str, Any]:
    """The shares of the time that the host spends in each part, and that the device is idle, over steps with logging and saving.

    times        as written by `stress_child.Times`
    block        steps per block; every second block is left out, as are the first WARM log intervals
    intervals    {"save", "log"}: steps between two saves, and between two log lines
    """
    called, ready = times["called"], times["ready"]
    gaps = [max(0.0, after - before) for before, after in zip(ready, called[1:], strict=False)]
    first = WARM * intervals["log"]
    measured = [k for k in range(first, len(gaps)) if not bare(k + 1, block)]
    total, measured_set = sum(ready[k + 1] - ready[k] for k in measured), set(measured)
    host = {part: sum(seconds for at, seconds in times[part] if at - 1 in measured_set) / total for part in PARTS}
    idle = {"save": 0.0, "log": 0.0, "other": 0.0}
    for k in measured:
        cause = next((part for part, steps in intervals.items() if (k + 1) % steps == 0), "other")
        idle[cause] += gaps[k] / total
    return {"host": host, "idle": idle, "idle_once_s": sum(gaps[:first])}


def blocks(times: dict[str, list], block: int) -> dict[str, Any]:
    """Milliseconds per step of each whole block with logging and saving, and without, and the ratios of neighbouring blocks."""
    ready = times["ready"]
    step_ms: dict[bool, list[float]] = {False: [], True: []}
    for at in range(block // 2 - 2, len(ready) - block, block):  # the step before a block's first
        step_ms[bare(at + 2, block)].append(1e3 * (ready[at + block] - ready[at]) / block)
    ratios = [a / b for a, b in zip(step_ms[False], step_ms[True], strict=False)]
    return {"with": step_ms[False], "without": step_ms[True], "ratios": ratios}

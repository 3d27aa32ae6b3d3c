"""A long run's memory, threads, files and step time, and what logging, saving and waiting for batches cost a usual one."""

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from research.util.errors import UserError
from research.util.files import read_json
from tools.dev.stress_cases.stress_child import bare
from tools.dev.stress_cases.stress_process import Life, lines

LONG = "language_model/tiny"
EVERY = dict(log_every=20, save_every=500, eval_every=1_000)
USUAL = (
    "language_model/pydoc_char"  # as it is, but for its length and without evaluations, which are neither log nor save
)
BLOCK = 250  # its save_every; blocks with and without logging and saving in turn, after the first half of one
USUAL_STEPS = BLOCK // 2 + 8 * BLOCK
PARTS = ("log", "save", "batch")
WARM = 3  # log intervals until each part has run once: what it imports or compiles, it does once in a life
SAMPLES = 300
ABOUT = (
    "long: sampled from /proc at equal numbers of steps, step times from timing.jsonl (evaluations and saves in them); memory "
    "and time: medians of the first third and of the last; threads and files: least of the second third and of the last, for "
    "pools fill up in the first, and a save has threads and files for a moment. usual: host is the time that the loop spent in "
    "logging, saving and waiting for batches, while the device went on; idle is the time from a step's result being ready, as a "
    "thread sees it that waits for each, to the next step's being handed over, added up over steps that followed a log, a save, "
    "or neither; bare is the time of a block of steps that are neither logged nor saved, between blocks that are, in the same "
    "process. The host is ahead of the device: most of what it spends in logging is waiting for values of an interval before, "
    "which is no cost"
)


def measure(names: Sequence[str], count: int, seed: int, folder: Path, say: Callable[[str], Any] = print) -> dict:
    """`count` steps of a tiny model, and then what a usual run costs."""
    del names, seed  # language models, as they are
    long = steady(folder / "long", count)
    say(f"{count:,} steps: {long}")
    usual = costs(folder / "usual", USUAL, min(USUAL_STEPS, count), BLOCK)
    say(f"{USUAL}: {usual}")
    return {"about": ABOUT, "cases": [long], "usual": usual}


def faults(results: dict) -> list[str]:
    """What is not flat; a step time is only told, since a machine may have been busy."""
    (long,) = results["cases"]
    grown = {k: long[k][1] - long[k][0] for k in ("threads", "files")}
    found = [f"{count:g} more {k} in the last third" for k, count in grown.items() if count > 0]
    if (more := long["rss_mb"][1] - long["rss_mb"][0]) > (limit := max(16.0, 0.05 * long["rss_mb"][0])):
        found.append(f"{more:.0f} MB more in the last third; {limit:.0f} are allowed")
    return found


# ---- A long run


def steady(workdir: Path, steps: int) -> dict[str, Any]:
    """Trains so many steps of a tiny model -> [first third, last third] medians of what it holds and of its step time."""
    if not Path("/proc/self/status").exists():
        raise UserError(f"stress flat reads /proc, which {os.uname().sysname} does not have; leave it out")
    words = [f"--config.num_steps={steps}", *(f"--config.{k}={v}" for k, v in EVERY.items())]
    stride, seen = max(1, steps // SAMPLES), []
    with Life(LONG, workdir, *words, tell=True) as life:
        for line in life.lines():
            word, *number = line.split()
            if number and int(number[0]) % stride == 0:
                seen.append(_held(life.process.pid))
        if problem := life.problem(0):
            raise UserError(f"{workdir} {problem}; see {life.log}")
    memory, threads, files = ([sample[i] for sample in seen] for i in range(3))
    found = {"rss_mb": _thirds(memory), "threads": _least(threads), "files": _least(files)}
    return {"name": LONG, "steps": steps, **EVERY, **found, "step_ms": _thirds(_step_times(workdir))}


def _held(pid: int) -> tuple[float, int, int]:
    """Resident memory in MB, threads, open files."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1e3, int(status["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))


def _thirds(values: Sequence[float]) -> list[float]:
    third = max(1, len(values) // 3)
    return [median(values[:third]), median(values[-third:])]


def _least(values: Sequence[float]) -> list[float]:
    """Of the second third and of the last: pools fill up in the first, and a save has threads and files for a moment."""
    third = max(1, len(values) // 3)
    return [min(values[-2 * third : -third] or values), min(values[-third:])]


def _step_times(workdir: Path) -> list[float]:
    """Milliseconds a step between log lines; the first, with the compiling, left out."""
    rows = [(line["step"], line["seconds"]) for line in lines(workdir / "timing.jsonl")]
    return [1e3 * (b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(rows)]


# ---- What logging, saving and waiting cost


def costs(workdir: Path, name: str, steps: int, block: int) -> dict[str, Any]:
    """Trains `steps`, every second block of them neither logged nor saved -> shares of the time, and the blocks' times."""
    times = workdir.with_name(f"{workdir.name}_times.json")
    words = [f"--config.num_steps={steps}", f"--config.save_every={block}", "--config.eval_every=0"]
    with Life(name, workdir, *words, times=str(times), bare=block) as life:
        if problem := life.problem(0):
            raise UserError(f"{workdir} {problem}; see {life.log}")
    found = read_json(times)
    every = {part: read_json(workdir / "config.json")["config"][f"{part}_every"] for part in ("save", "log")}
    return {
        "name": name,
        "steps": steps,
        "overrides": words,
        **shares(found, block, every),
        "block_ms": blocks(found, block),
    }


def shares(found: dict[str, list], block: int, every: dict[str, int]) -> dict[str, Any]:
    """`stress_child.Times` of a run -> shares of the time of the steps that are logged and saved, after the first intervals.

    `found["log"]` and the like are (steps handed over so far, seconds); `every`: steps between two saves, two log lines.
    """
    called, ready = found["called"], found["ready"]
    gaps = [max(0.0, after - before) for before, after in zip(ready, called[1:], strict=False)]
    warm = WARM * every["log"]
    real = [k for k in range(warm, len(gaps)) if not bare(k + 1, block)]
    total, inside = sum(ready[k + 1] - ready[k] for k in real), set(real)
    host = {part: sum(seconds for at, seconds in found[part] if at - 1 in inside) / total for part in PARTS}
    idle = {"save": 0.0, "log": 0.0, "other": 0.0}
    for k in real:
        cause = next((part for part, steps in every.items() if (k + 1) % steps == 0), "other")
        idle[cause] += gaps[k] / total
    return {"host": host, "idle": idle, "idle_once_s": sum(gaps[:warm])}


def blocks(found: dict[str, list], block: int) -> dict[str, Any]:
    """Milliseconds a step of each whole block with logging and saving, and without, and the ratios of neighbours."""
    ready = found["ready"]
    of: dict[bool, list[float]] = {False: [], True: []}
    for at in range(block // 2 - 2, len(ready) - block, block):  # the step before a block's first
        of[bare(at + 2, block)].append(1e3 * (ready[at + block] - ready[at]) / block)
    ratios = [a / b for a, b in zip(of[False], of[True], strict=False)]
    return {"with": of[False], "without": of[True], "ratios": ratios}

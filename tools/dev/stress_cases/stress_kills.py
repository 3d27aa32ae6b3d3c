"""Kills real training processes at random moments of every phase; compares the finished runs with uninterrupted ones."""

import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from research.run import reopen
from research.util.errors import UserError
from tools.dev.stress_cases.stress_process import TrainingProcess, bits, lines, newest
from tools.results.stress_table import PHASES

STEPS, SAVE_EVERY = 60, 7
WORDS = (f"--config.num_steps={STEPS}", f"--config.save_every={SAVE_EVERY}", "--config.eval_every=10")
# Seconds after the start of a phase within which the process is killed, about as long as it lasts. "start": as measured.
DELAY = {"step": 0.03, "evaluate": 0.1, "save": 0.1, "end": 1.0}
# A process is killed in one of the first so many occurrences of a phase.
OCCURRENCES = {"start": 1, "step": 12, "evaluate": 2, "save": 3, "end": 1}
ABOUT = "SIGKILL at a random moment of a phase; each run is then finished and compared with an uninterrupted one"


def measure(names: Sequence[str], count: int, seed: int, folder: Path, say: Callable[[str], Any] = print) -> dict:
    """At least `count` kills over the tiny configs of the families, at most seven per run, the last of them at its end."""
    rng = random.Random(seed)
    starts = {}
    for family in names:
        starts[family] = [_uninterrupted(family, folder / family / "whole")]
        say(f"{family}: the uninterrupted run is finished")
    cases: list[dict] = []
    runs: list[dict] = []
    while len(cases) < count:
        family = names[len(runs) % len(names)]
        number = len(runs) // len(names)
        workdir = folder / family / f"run_{number}"
        kills, problems = _run(family, workdir, _draw_phases(rng, count - len(cases)), rng, starts[family])
        problems = problems or compare(folder / family / "whole", workdir)
        cases += [{"family": family, "run": number, **kill} for kill in kills]
        runs.append({"family": family, "run": number, "kills": len(kills), "problems": problems})
        say(f"{family} run {number}: {len(kills)} kills; {'; '.join(problems) or 'equal to the uninterrupted one'}")
    return {"about": ABOUT, "overrides": WORDS, "save_every": SAVE_EVERY, "cases": cases, "runs": runs}


def faults(results: dict) -> list[str]:
    """One line for each difference from an uninterrupted run."""
    return [f"{run['family']} run {run['run']}: {text}" for run in results["runs"] for text in run["problems"]]


def _uninterrupted(family: str, workdir: Path) -> float:
    """Trains to the end -> seconds from the start of the process to its first step."""
    starts: list[float] = []
    if problem := _attempt(family, workdir, "", random.Random(0), starts)["problem"]:
        raise UserError(f"{workdir} {problem}; see {workdir}.log")
    return starts[0]


def _draw_phases(rng: random.Random, most: int) -> list[str]:
    """At most `most` phases in which to kill a run, in random order; the last is "end"."""
    middle = [*PHASES[:-1], *rng.choices(PHASES[1:-1], k=2)]
    rng.shuffle(middle)
    return [*middle[: most - 1], "end"]


def _run(
    family: str, workdir: Path, phases: Sequence[str], rng: random.Random, starts: list[float]
) -> tuple[list[dict], list[str]]:
    """Trains a run that is killed in each of these phases and then finished -> its kills, and the problems of its attempts."""
    kills: list[dict] = []
    problems: list[str] = []
    for target in [*phases, ""]:
        kept = newest(workdir)
        attempt = _attempt(family, workdir, target, rng, starts)
        if attempt["problem"]:
            return kills, [*problems, attempt["problem"]]
        if attempt["first"] not in (kept, None):
            problems.append(f"resumed at step {attempt['first']} with a checkpoint of step {kept}")
        if not attempt["died"]:  # the run finished before the kill
            break
        lost = attempt["step"] - newest(workdir)
        if lost >= 2 * SAVE_EVERY:  # an asynchronous save is complete at the latest when the next one begins
            problems.append(f"lost {lost} steps")
        kill = {k: attempt[k] for k in ("died", "writing", "step")}
        kills.append({"wished": target, **kill, "kept": newest(workdir)})
    return kills, problems


def _attempt(family: str, workdir: Path, target: str, rng: random.Random, starts: list[float]) -> dict[str, Any]:
    """One process, killed in phase `target` ("": not killed). Its seconds until the first step are appended to `starts`.

    Returns its first step, its last step, the phase in which it died ("": none), whether a checkpoint was being written then,
    and the problem if it ended in another way.
    """
    partial = _partial(workdir)
    phase, first, step = "start", None, newest(workdir)
    left = rng.randrange(OCCURRENCES[target]) if target else -1
    with TrainingProcess(f"{family}/tiny", workdir, *WORDS, phases=True) as process:
        for line in process.lines():
            phase, *number = line.split()
            if number:
                step = int(number[0])
            if number and first is None:
                first = step
                starts.append(time.monotonic() - process.start_time)
            if phase == target:
                if left == 0:
                    _kill(process, target, partial, rng.uniform(0, DELAY.get(target, min(starts))))
                left -= 1
        problem = process.problem(0, -signal.SIGKILL)
        if process.popen.returncode == 0:
            phase = ""
    writing = bool(_partial(workdir) - partial)
    return {"first": first, "step": step, "died": phase, "writing": writing, "problem": problem}


def _kill(process: TrainingProcess, target: str, partial: set, delay: float) -> None:
    """Kills a process after `delay` seconds; in phase "save", counted from when a checkpoint is being written."""
    if target == "save":
        while not _partial(process.workdir) - partial and process.popen.poll() is None:
            time.sleep(0.001)
    time.sleep(delay)
    process.kill()


def _partial(workdir: Path) -> set[tuple[str, int]]:
    """The checkpoints that are being written or were left half-written, as (name, inode): each attempt has its own."""
    partial = set()
    for path in workdir.glob("*/*.orbax-checkpoint-tmp*"):
        try:
            partial.add((path.name, path.stat().st_ino))
        except FileNotFoundError:  # it has been completed
            continue
    return partial


def compare(uninterrupted: Path, other: Path) -> list[str]:
    """One line for each difference between a run that was killed and the uninterrupted one."""
    problems = [
        f"{name} differs"
        for name in ("metrics.jsonl", "report.json")
        if _bytes(uninterrupted, name) != _bytes(other, name)
    ]
    expected, actual = ([row["step"] for row in lines(folder / "timing.jsonl")] for folder in (uninterrupted, other))
    if expected != actual:
        problems.append(f"timing.jsonl has the steps {actual}")
    problems += [f"{path.name} is left" for pattern in ("tmp*", "damaged*") for path in other.glob(f"*/*.*{pattern}")]
    for which in ("last", "best"):
        (_, a, _), (_, b, _) = (reopen.load(folder, which) for folder in (uninterrupted, other))
        left, right = bits(a), bits(b)
        problems += [f"{name} of the {which} state differs" for name in left if left[name] != right.get(name)]
    return problems


def _bytes(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()

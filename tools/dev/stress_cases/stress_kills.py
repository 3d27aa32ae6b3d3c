"""SIGKILL to real training processes at random moments of every phase; the finished runs against undisturbed ones."""

import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from research.run import reopen
from research.util.errors import UserError
from tools.dev.stress_cases.stress_process import Life, bits, lines, newest
from tools.results.stress_table import PHASES

STEPS, SAVE_EVERY = 60, 7
WORDS = (f"--config.num_steps={STEPS}", f"--config.save_every={SAVE_EVERY}", "--config.eval_every=10")
# Seconds from a phase's beginning in which the kill comes: about as long as it lasts. Of "start", what a start has taken.
DELAY = {"step": 0.03, "evaluate": 0.1, "save": 0.1, "end": 1.0}
PASS = {"start": 1, "step": 12, "evaluate": 2, "save": 3, "end": 1}  # the kill is in one of so many of the phase
ABOUT = "SIGKILL at a random moment of a phase; each run then finished and compared with one that nobody disturbed"


def measure(names: Sequence[str], count: int, seed: int, folder: Path, say: Callable[[str], Any] = print) -> dict:
    """`count` kills or a few more over the families' tiny configs, in each run at most seven, the last of them at the end."""
    rng = random.Random(seed)
    starts = {}
    for family in names:
        starts[family] = [_undisturbed(family, folder / family / "whole")]
        say(f"{family}: the undisturbed run is there")
    cases: list[dict] = []
    found: list[dict] = []
    while len(cases) < count:
        family = names[len(found) % len(names)]
        number = len(found) // len(names)
        workdir = folder / family / f"run_{number}"
        kills, problems = _run(family, workdir, _wishes(rng, count - len(cases)), rng, starts[family])
        problems = problems or compare(folder / family / "whole", workdir)
        cases += [{"family": family, "run": number, **kill} for kill in kills]
        found.append({"family": family, "run": number, "kills": len(kills), "problems": problems})
        say(f"{family} run {number}: {len(kills)} kills; {'; '.join(problems) or 'as if undisturbed'}")
    return {"about": ABOUT, "overrides": WORDS, "save_every": SAVE_EVERY, "cases": cases, "runs": found}


def faults(results: dict) -> list[str]:
    return [f"{run['family']} run {run['run']}: {text}" for run in results["runs"] for text in run["problems"]]


def _undisturbed(family: str, workdir: Path) -> float:
    """Trains to the end -> seconds from the start of the process to its first step."""
    starts: list[float] = []
    if problem := _life(family, workdir, "", random.Random(0), starts)["problem"]:
        raise UserError(f"{workdir} {problem}; see {workdir}.log")
    return starts[0]


def _wishes(rng: random.Random, most: int) -> list[str]:
    """The phases to kill a run in, the last one at the end of the run."""
    middle = [*PHASES[:-1], *rng.choices(PHASES[1:-1], k=2)]
    rng.shuffle(middle)
    return [*middle[: most - 1], "end"]


def _run(
    family: str, workdir: Path, wishes: Sequence[str], rng: random.Random, starts: list[float]
) -> tuple[list[dict], list[str]]:
    """A run killed in each of these phases, and then left alone: its kills, and what was wrong with its lives."""
    kills: list[dict] = []
    problems: list[str] = []
    for wish in [*wishes, ""]:
        kept = newest(workdir)
        seen = _life(family, workdir, wish, rng, starts)
        if seen["problem"]:
            return kills, [*problems, seen["problem"]]
        if seen["first"] not in (kept, None):
            problems.append(f"went on at step {seen['first']} with a checkpoint of step {kept}")
        if not seen["died"]:  # it has come to its end before the kill
            break
        lost = seen["step"] - newest(workdir)
        if lost >= 2 * SAVE_EVERY:  # an asynchronous save is whole at the latest when the next one begins
            problems.append(f"lost {lost} steps")
        kill = {k: seen[k] for k in ("died", "writing", "step")}
        kills.append({"wished": wish, **kill, "kept": newest(workdir)})
    return kills, problems


def _life(family: str, workdir: Path, wish: str, rng: random.Random, starts: list[float]) -> dict[str, Any]:
    """One process, killed in the phase that is wished.

    -> its first step, its last, the phase that its loop died in ("": none), and whether a checkpoint was being written then.
    """
    partial = _partial(workdir)
    phase, first, step = "start", None, newest(workdir)
    left = rng.randrange(PASS[wish]) if wish else -1
    with Life(f"{family}/tiny", workdir, *WORDS, tell=True) as life:
        for line in life.lines():
            phase, *number = line.split()
            if number:
                step = int(number[0])
            if number and first is None:
                first = step
                starts.append(time.monotonic() - life.began)
            if phase == wish:
                if left == 0:
                    _kill(life, wish, partial, rng.uniform(0, DELAY.get(wish, min(starts))))
                left -= 1
        problem = life.problem(0, -signal.SIGKILL)
        if life.process.returncode == 0:
            phase = ""
    writing = bool(_partial(workdir) - partial)
    return {"first": first, "step": step, "died": phase, "writing": writing, "problem": problem}


def _kill(life: Life, wish: str, partial: set, delay: float) -> None:
    if wish == "save":
        while not _partial(life.workdir) - partial and life.process.poll() is None:
            time.sleep(0.001)
    time.sleep(delay)
    life.kill()


def _partial(workdir: Path) -> set[tuple[str, int]]:
    """The checkpoints that are being written, or were when their process died; each life's are other ones."""
    found = set()
    for path in workdir.glob("*/*.orbax-checkpoint-tmp*"):
        try:
            found.add((path.name, path.stat().st_ino))
        except FileNotFoundError:  # it is whole now
            continue
    return found


def compare(whole: Path, other: Path) -> list[str]:
    """A line for each thing in which a run that was killed is not the undisturbed one."""
    problems = [
        f"{name} differs" for name in ("metrics.jsonl", "report.json") if _bytes(whole, name) != _bytes(other, name)
    ]
    wanted, found = ([row["step"] for row in lines(folder / "timing.jsonl")] for folder in (whole, other))
    if wanted != found:
        problems.append(f"timing.jsonl has the steps {found}")
    problems += [f"{path.name} is left" for pattern in ("tmp*", "damaged*") for path in other.glob(f"*/*.*{pattern}")]
    for which in ("last", "best"):
        (_, a, _), (_, b, _) = (reopen.load(folder, which) for folder in (whole, other))
        left, right = bits(a), bits(b)
        problems += [f"{name} of the {which} state differs" for name in left if left[name] != right.get(name)]
    return problems


def _bytes(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()

"""Runs whose every life has other devices and another sharding: their losses, and that each example still comes once.

A life is a real process (or two) on virtual CPU devices, ended by SIGTERM at a random step, and gone on with by the next. The
losses are compared with those of one undisturbed device: sums are taken in another order, whose last bits differ, and each
step carries them on. So they are in a run that stays on eight devices, which is measured beside it.
"""

import itertools
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from research.core import config, mesh
from research.data.buckets import Bucketed
from research.data.pipeline import TrainBatches
from research.run import reopen
from research.util.errors import UserError
from tools.dev.stress_cases.stress_child import rows
from tools.dev.stress_cases.stress_process import Life, lines, newest

STEPS = 36
WORDS = (f"--config.num_steps={STEPS}", "--config.log_every=1", "--config.eval_every=12")
PAIRS = 5  # changes in a run
PREEMPTED = 75
PAUSE = 3.0  # seconds that one of several processes stays in its step after SIGTERM: JAX looks for it once a second
TOLERANCE = 1e-3  # of a loss, relative to its size: some forty times what a run that stays on eight devices differs by
ABOUT = "each life of a run on other devices, mesh, rules and processes; its losses against the undisturbed run on one device"


class Plan(NamedTuple):
    """Where a life runs: the mesh's axes, the name of the model's rules, and the number of processes."""

    data: int
    model: int
    rules: str = ""
    hosts: int = 1

    def __str__(self) -> str:
        if self.data * self.model == 1:
            return "one"
        shape = f"{self.data}x{self.model}" if self.model > 1 else str(self.data)
        return f"{self.rules or 'data'} {shape}" + (f" in {self.hosts} processes" if self.hosts > 1 else "")

    def words(self) -> list[str]:
        return [f"--config.mesh.data={self.data}", f"--config.mesh.model={self.model}", f"--config.rules={self.rules}"]


ONE, DATA_8 = Plan(1, 1), Plan(8, 1)
PLANS = (  # the first five: on 8, 4, 2, 1 and 8 devices
    DATA_8, Plan(2, 2, "fsdp_tensor"), Plan(2, 1, "fsdp"), ONE, Plan(8, 1, "fsdp"), Plan(2, 1, "", 2), Plan(4, 2, "tensor"),
    Plan(4, 1), Plan(1, 2, "tensor"),
)  # fmt: skip


def measure(names: Sequence[str], count: int, seed: int, folder: Path, say: Callable[[str], Any] = print) -> dict:
    """At least `count` ordered pairs of plans, or all that the families have rules for."""
    rng = random.Random(seed)
    experiments = {family: _build(family) for family in names}
    chosen, pairs = [], 0
    for family, plans in walks({family: _plans(e) for family, e in experiments.items()}):
        if pairs < count:
            chosen.append((family, plans))
            pairs += len(plans) - 1
    same: dict[str, float] = {}
    found: list[dict] = []
    for family, plans in chosen:
        whole = folder / family / "one"
        if family not in same:
            _life(family, whole, ONE, None, [])
            _life(family, folder / family / "eight", DATA_8, None, [])
            same[family] = apart(whole, folder / family / "eight")
            say(f"{family}: undisturbed on eight devices, the losses are {same[family]:.1e} apart from one's")
        number = sum(run["family"] == family for run in found)
        run = _run(family, folder / family / f"run_{number}", plans, whole, experiments[family].train, rng)
        told = "; ".join(run["problems"]) or f"losses {run['apart']:.1e} apart"
        say(f"{family} run {number}: {' -> '.join(run['plans'])}: {told}")
        found.append({"family": family, "run": number, **run})
    return {
        "about": ABOUT,
        "overrides": WORDS,
        "tolerance": TOLERANCE,
        "undisturbed_on_eight": same,
        "boundaries": {family: boundaries(experiments[family].train) for family in same},
        "cases": found,
    }


def faults(results: dict) -> list[str]:
    found = [f"{case['family']} run {case['run']}: {text}" for case in results["cases"] for text in case["problems"]]
    for family, of in results["boundaries"].items():
        found += [f"{family}: changes at {of['wrong']} batch boundaries lose an example"] if of["wrong"] else []
    return found


# ---- Plans


def _build(family: str) -> Any:
    words = [word.removeprefix("--config.") for word in WORDS]
    return reopen.build(family, config.load(f"{family}/tiny", words))


def _plans(e: Any) -> list[Plan]:
    """The plans that a family has rules for."""
    return [plan for plan in PLANS if not plan.rules or plan.rules in e.sharding]


def walks(can: dict[str, list[Plan]]) -> Iterator[tuple[str, list[Plan]]]:
    """(family, plans in turn), each ordered pair of plans in one walk at least; the families in turn."""
    left = {pair for plans in can.values() for pair in itertools.permutations(plans, 2)}
    found: dict[str, list[list[Plan]]] = {family: [] for family in can}
    widest = max(can, key=lambda family: len(can[family]))
    for family in sorted(can, key=lambda family: len(can[family])):
        if family == widest:
            found[family].append(can[family][: PAIRS + 1])
            left -= set(itertools.pairwise(found[family][0]))
        while mine := {pair for pair in left if set(pair) <= set(can[family])}:
            found[family].append(_walk(mine))
            left -= set(itertools.pairwise(found[family][-1]))
    turns = itertools.zip_longest(*([(family, plans) for plans in found[family]] for family in sorted(can)))
    return (walk for turn in turns for walk in turn if walk)


def _walk(pairs: set[tuple[Plan, Plan]]) -> list[Plan]:
    """Through as many of these pairs as a run takes, always on to where most are left."""
    left, order = set(pairs), sorted({plan for pair in pairs for plan in pair})
    ways = Counter(a for a, _ in left)
    walk = [max(order, key=lambda plan: ways[plan])]
    while len(walk) <= PAIRS:
        after = [plan for plan in order if (walk[-1], plan) in left]
        if not after:
            break
        ways = Counter(a for a, _ in left)
        walk.append(max(after, key=lambda plan: ways[plan]))
        left.remove((walk[-2], walk[-1]))
    return walk


# ---- Lives


def _run(
    family: str, workdir: Path, plans: Sequence[Plan], whole: Path, stream: Any, rng: random.Random
) -> dict[str, Any]:  # fmt: skip
    """Trains through these plans, with a change at random steps -> what it was, and what is wrong with it."""
    ends = [*sorted(rng.sample(range(1, STEPS - 8), len(plans) - 1)), None]
    seen: dict[int, dict[int, int]] = {}
    problems, changes = [], []
    for number, (plan, end) in enumerate(zip(plans, ends, strict=True)):
        first = newest(workdir)
        end = (
            None if end is None or end > STEPS - 3 else max(end, first)
        )  # another process may run on for a step or two
        files = [workdir.with_name(f"{workdir.name}_{number}_{host}.jsonl") for host in range(plan.hosts)]
        _life(family, workdir, plan, end, files)
        done = _batches(files)
        if sorted(done) != list(range(first, newest(workdir))):
            problems.append(f"life {number} did the steps {sorted(done)}, from {first} to {newest(workdir)}")
        seen |= done
        changes.append(newest(workdir))
        if newest(workdir) == STEPS:
            break
    problems += wrong_examples(seen, stream)
    far = apart(whole, workdir)
    if not far <= TOLERANCE:
        problems.append(f"losses are {far:.1e} apart")
    lived = [str(plan) for plan in plans[: len(changes)]]
    return {"plans": lived, "changes": changes[:-1], "apart": far, "problems": problems}


def _life(family: str, workdir: Path, plan: Plan, end: int | None, files: Sequence[Path]) -> None:
    """One life: to step `end`, where SIGTERM comes, or to the end of the run. `files`: of each process's batches."""
    words = [*WORDS, *plan.words()]
    if plan.hosts > 1:
        words += [f"--hosts={plan.hosts}", f"--coordinator=127.0.0.1:{_port()}"]
    with ExitStack() as stack:
        lives = []
        for host in range(plan.hosts):
            more = [f"--host-id={host}"] if plan.hosts > 1 else []
            wishes: dict[str, Any] = {"batches": str(files[host])} if files else {}
            if end is not None and host == plan.hosts - 1:  # one of several: it tells the others
                wishes |= {"term": end, "pause": PAUSE if plan.hosts > 1 else 0.0}
            devices = plan.data * plan.model // plan.hosts
            life = Life(f"{family}/tiny", workdir, *words, *more, devices=devices, host=host, **wishes)
            lives.append(stack.enter_context(life))
        # Of several processes, quick steps may come to the end of the run before all have heard of it.
        statuses = [0] if end is None else [PREEMPTED] if plan.hosts == 1 else [PREEMPTED, 0]
        told = [(life, life.problem(*statuses)) for life in lives]
    for life, problem in told:
        if problem:
            raise UserError(f"{workdir} on {plan} {problem}; see {life.log}")


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def _batches(files: Sequence[Path]) -> dict[int, dict[int, int]]:
    """{step: {row: checksum}} over all processes of a life."""
    found: dict[int, dict[int, int]] = {}
    for line in itertools.chain.from_iterable(map(lines, files)):
        found.setdefault(line["step"], {}).update({int(row): crc for row, crc in line["rows"].items()})
    return found


def apart(whole: Path, other: Path) -> float:
    """The largest difference of two runs' logged losses, relative to their size (or to 1, where they are smaller)."""
    logs = []
    for folder in (whole, other):
        found = {(line["step"], line["split"]): line["values"] for line in lines(folder / "metrics.jsonl")}
        logs.append({(*at, k): v for at, values in found.items() for k, v in values.items() if k.endswith("loss")})
    if logs[0].keys() != logs[1].keys():
        raise UserError(f"{whole} and {other} have logged other steps")
    return max(abs(logs[1][at] - value) / max(1.0, abs(value)) for at, value in logs[0].items())


# ---- Examples


def wrong_examples(seen: dict[int, dict[int, int]], stream: Any) -> list[str]:
    """Of {step: {row: checksum}}: a line for each step whose rows are not the stream's, and for an epoch that is not whole."""
    problems, one = [], mesh.make_mesh({"data": 1, "model": 1}, jax.devices()[:1])
    for step, got in sorted(seen.items()):
        wanted = rows(mesh.to_device(stream.batch(step), one, stream.size(step)))
        if got != wanted:
            problems.append(f"step {step}: {sum(got.get(row) != crc for row, crc in wanted.items())} rows are others")
    whole = isinstance(stream, TrainBatches) and STEPS * stream.batch_size >= stream.epoch  # else rows may be filled up
    if sorted(seen) == list(range(STEPS)) and whole:
        every = mesh.to_device(stream.source.gather(np.arange(stream.epoch), 0), one, stream.epoch)
        came = [seen[step][row] for step in sorted(seen) for row in sorted(seen[step])][: stream.epoch]
        if Counter(came) != Counter(rows(every).values()):
            problems.append("an example of the first epoch came not once")
    return problems


def boundaries(stream: Any, sizes: Sequence[int] = (1, 2, 4, 8)) -> dict[str, int]:
    """Changes from each number of devices to each at every batch boundary of an epoch: how many, how many lose an example."""
    steps = stream.steps if isinstance(stream, Bucketed) else -(-stream.epoch // stream.batch_size)
    fitting = [size for size in sizes if size <= jax.device_count() and stream.batch_size % size == 0]
    read = {size: _by_devices(stream, steps, size) for size in fitting}
    wrong = count = 0
    for a, b in itertools.product(read, repeat=2):
        for at in range(steps + 1):
            came = np.concatenate([*read[a][:at], *read[b][at:]])[: stream.epoch]
            wrong += not np.array_equal(np.bincount(came, minlength=stream.epoch), np.ones(stream.epoch, int))
            count += 1
    return {"boundaries": count, "wrong": wrong}


def _by_devices(stream: Any, steps: int, size: int) -> list[np.ndarray]:
    """The places in the source that so many devices read in each step, each its own rows."""
    devices = mesh.make_mesh({"data": size, "model": 1}, jax.devices()[:size])
    found = []
    for step in range(steps):
        slices = [mine for (mine,) in mesh.batch_sharding(devices).devices_indices_map((stream.size(step),)).values()]
        slices.sort(key=lambda mine: mine.start or 0)
        found.append(np.concatenate([stream.numbers(step, mine)[0] for mine in slices]))
    return found

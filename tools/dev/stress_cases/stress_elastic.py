"""Runs whose attempts have different devices and sharding: compares their losses, and checks that each example comes once.

An attempt is a real process (or two) on virtual CPU devices that is ended by SIGTERM at a random step; the next one resumes. The
losses are compared with those of an uninterrupted run on one device. They differ in the last bits, because sums are taken in
another order, and the differences grow with each step; as a reference, a run that stays on eight devices is measured as well.
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
from tools.dev.stress_cases.stress_process import TrainingProcess, lines, newest

STEPS = 36
WORDS = (f"--config.num_steps={STEPS}", "--config.log_every=1", "--config.eval_every=12")
PAIRS = 5  # changes of plan in a run
PREEMPTED = 75
PAUSE = (
    3.0  # seconds for which one of several processes sleeps after SIGTERM, because JAX checks for it once per second
)
TOLERANCE = 1e-3  # relative, of a loss; about forty times the difference of a run that stays on eight devices
ABOUT = (
    "each attempt on other devices, mesh, rules and processes; losses compared with the uninterrupted run on one device"
)


class Plan(NamedTuple):
    """The setting of an attempt: sizes of the mesh axes, the name of the model's sharding rules, and the number of processes."""

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
        """The plan as overrides on a command line."""
        return [f"--config.mesh.data={self.data}", f"--config.mesh.model={self.model}", f"--config.rules={self.rules}"]


ONE, DATA_8 = Plan(1, 1), Plan(8, 1)
PLANS = (  # the first five: on 8, 4, 2, 1 and 8 devices
    DATA_8, Plan(2, 2, "fsdp_tensor"), Plan(2, 1, "fsdp"), ONE, Plan(8, 1, "fsdp"), Plan(2, 1, "", 2), Plan(4, 2, "tensor"),
    Plan(4, 1), Plan(1, 2, "tensor"),
)  # fmt: skip


def measure(names: Sequence[str], count: int, seed: int, folder: Path, say: Callable[[str], Any] = print) -> dict:
    """Runs at least `count` ordered pairs of plans, or all for which the families have sharding rules."""
    rng = random.Random(seed)
    experiments = {family: _build(family) for family in names}
    chosen, pairs = [], 0
    for family, plans in walks({family: _plans(e) for family, e in experiments.items()}):
        if pairs < count:
            chosen.append((family, plans))
            pairs += len(plans) - 1
    reference: dict[str, float] = {}
    runs: list[dict] = []
    for family, plans in chosen:
        one_device = folder / family / "one"
        if family not in reference:
            _attempt(family, one_device, ONE, None, [])
            _attempt(family, folder / family / "eight", DATA_8, None, [])
            reference[family] = loss_difference(one_device, folder / family / "eight")
            say(
                f"{family}: uninterrupted, the losses on eight devices differ by {reference[family]:.1e} from those on one"
            )
        number = sum(run["family"] == family for run in runs)
        run = _run(family, folder / family / f"run_{number}", plans, one_device, experiments[family].train, rng)
        outcome = "; ".join(run["problems"]) or f"losses differ by {run['apart']:.1e}"
        say(f"{family} run {number}: {' -> '.join(run['plans'])}: {outcome}")
        runs.append({"family": family, "run": number, **run})
    return {
        "about": ABOUT,
        "overrides": WORDS,
        "tolerance": TOLERANCE,
        "undisturbed_on_eight": reference,
        "boundaries": {family: boundaries(experiments[family].train) for family in reference},
        "cases": runs,
    }


def faults(results: dict) -> list[str]:
    """One line for each problem of a run, and for each family that loses examples at batch boundaries."""
    problems = [f"{case['family']} run {case['run']}: {text}" for case in results["cases"] for text in case["problems"]]
    for family, counts in results["boundaries"].items():
        problems += (
            [f"{family}: changes at {counts['wrong']} batch boundaries lose an example"] if counts["wrong"] else []
        )
    return problems


# ---- Plans


def _build(family: str) -> Any:
    words = [word.removeprefix("--config.") for word in WORDS]
    return reopen.build(family, config.load(f"{family}/tiny", words))


def _plans(e: Any) -> list[Plan]:
    """The plans for which a family has sharding rules."""
    return [plan for plan in PLANS if not plan.rules or plan.rules in e.sharding]


def walks(plans: dict[str, list[Plan]]) -> Iterator[tuple[str, list[Plan]]]:
    """{family: its plans} -> (family, sequence of plans), families alternating; each ordered pair is in at least one sequence."""
    left = {pair for family_plans in plans.values() for pair in itertools.permutations(family_plans, 2)}
    by_family: dict[str, list[list[Plan]]] = {family: [] for family in plans}
    largest = max(plans, key=lambda family: len(plans[family]))
    for family in sorted(plans, key=lambda family: len(plans[family])):
        if family == largest:
            by_family[family].append(plans[family][: PAIRS + 1])
            left -= set(itertools.pairwise(by_family[family][0]))
        while possible := {pair for pair in left if set(pair) <= set(plans[family])}:
            by_family[family].append(_walk(possible))
            left -= set(itertools.pairwise(by_family[family][-1]))
    rounds = itertools.zip_longest(*([(family, walk) for walk in by_family[family]] for family in sorted(plans)))
    return (walk for walks in rounds for walk in walks if walk)


def _walk(pairs: set[tuple[Plan, Plan]]) -> list[Plan]:
    """A sequence through at most PAIRS of these pairs; each step goes to the plan with the most pairs left."""
    left, order = set(pairs), sorted({plan for pair in pairs for plan in pair})
    num_left = Counter(a for a, _ in left)
    walk = [max(order, key=lambda plan: num_left[plan])]
    while len(walk) <= PAIRS:
        successors = [plan for plan in order if (walk[-1], plan) in left]
        if not successors:
            break
        num_left = Counter(a for a, _ in left)
        walk.append(max(successors, key=lambda plan: num_left[plan]))
        left.remove((walk[-2], walk[-1]))
    return walk


# ---- Attempts


def _run(
    family: str, workdir: Path, plans: Sequence[Plan], one_device: Path, stream: Any, rng: random.Random
) -> dict[str, Any]:  # fmt: skip
    """Trains a run that changes to the next plan at random steps.

    Returns the plans and the steps of the changes, the largest difference of a loss ("apart"), and the problems.
    """
    ends = [*sorted(rng.sample(range(1, STEPS - 8), len(plans) - 1)), None]
    checksums: dict[int, dict[int, int]] = {}
    problems, changes = [], []
    for number, (plan, end) in enumerate(zip(plans, ends, strict=True)):
        first = newest(workdir)
        # Another process may do a step or two more.
        end = None if end is None or end > STEPS - 3 else max(end, first)
        files = [workdir.with_name(f"{workdir.name}_{number}_{host}.jsonl") for host in range(plan.hosts)]
        _attempt(family, workdir, plan, end, files)
        done = _batches(files)
        if sorted(done) != list(range(first, newest(workdir))):
            problems.append(f"attempt {number} did the steps {sorted(done)}, from {first} to {newest(workdir)}")
        checksums |= done
        changes.append(newest(workdir))
        if newest(workdir) == STEPS:
            break
    problems += wrong_examples(checksums, stream)
    difference = loss_difference(one_device, workdir)
    if not difference <= TOLERANCE:
        problems.append(f"losses differ by {difference:.1e}")
    used = [str(plan) for plan in plans[: len(changes)]]
    return {"plans": used, "changes": changes[:-1], "apart": difference, "problems": problems}


def _attempt(family: str, workdir: Path, plan: Plan, end: int | None, files: Sequence[Path]) -> None:
    """Trains to step `end`, ended by SIGTERM, or (None) to the end of the run. `files`: for each process's batches.

    Raises UserError if a process ends in another way.
    """
    words = [*WORDS, *plan.words()]
    if plan.hosts > 1:
        words += [f"--hosts={plan.hosts}", f"--coordinator=127.0.0.1:{_port()}"]
    with ExitStack() as stack:
        processes = []
        for host in range(plan.hosts):
            host_id = [f"--host-id={host}"] if plan.hosts > 1 else []
            options: dict[str, Any] = {"batches": str(files[host])} if files else {}
            if end is not None and host == plan.hosts - 1:  # only one of several, which notifies the others
                options |= {"term": end, "pause": PAUSE if plan.hosts > 1 else 0.0}
            devices = plan.data * plan.model // plan.hosts
            process = TrainingProcess(
                f"{family}/tiny", workdir, *words, *host_id, devices=devices, host=host, **options
            )
            processes.append(stack.enter_context(process))
        # With several processes, quick steps may finish the run before all of them are notified.
        statuses = [0] if end is None else [PREEMPTED] if plan.hosts == 1 else [PREEMPTED, 0]
        problems = [(process, process.problem(*statuses)) for process in processes]
    for process, problem in problems:
        if problem:
            raise UserError(f"{workdir} on {plan} {problem}; see {process.log}")


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _batches(files: Sequence[Path]) -> dict[int, dict[int, int]]:
    """{step: {row: checksum}} over all processes of an attempt."""
    checksums: dict[int, dict[int, int]] = {}
    for line in itertools.chain.from_iterable(map(lines, files)):
        checksums.setdefault(line["step"], {}).update({int(row): crc for row, crc in line["rows"].items()})
    return checksums


def loss_difference(reference: Path, other: Path) -> float:
    """The largest difference between two runs' logged losses, relative to max(1, |loss|).

    Raises UserError if they logged different steps.
    """
    logs = []
    for folder in (reference, other):
        rows = {(line["step"], line["split"]): line["values"] for line in lines(folder / "metrics.jsonl")}
        logs.append({(*key, k): v for key, values in rows.items() for k, v in values.items() if k.endswith("loss")})
    if logs[0].keys() != logs[1].keys():
        raise UserError(f"{reference} and {other} have logged different steps")
    return max(abs(logs[1][key] - value) / max(1.0, abs(value)) for key, value in logs[0].items())


# ---- Examples


def wrong_examples(checksums: dict[int, dict[int, int]], stream: Any) -> list[str]:
    """{step: {row: checksum}} -> a line for each step whose rows differ from the stream's, and for an incomplete epoch."""
    problems, device = [], mesh.make_mesh({"data": 1, "model": 1}, jax.devices()[:1])
    for step, actual in sorted(checksums.items()):
        expected = rows(mesh.to_device(stream.batch(step), device, stream.size(step)))
        if actual != expected:
            problems.append(f"step {step}: {sum(actual.get(row) != crc for row, crc in expected.items())} rows differ")
    has_epoch = (
        isinstance(stream, TrainBatches) and STEPS * stream.batch_size >= stream.epoch
    )  # else there may be padding
    if sorted(checksums) == list(range(STEPS)) and has_epoch:
        epoch = mesh.to_device(stream.source.gather(np.arange(stream.epoch), 0), device, stream.epoch)
        examples = [checksums[step][row] for step in sorted(checksums) for row in sorted(checksums[step])]
        if Counter(examples[: stream.epoch]) != Counter(rows(epoch).values()):
            problems.append("an example of the first epoch did not come exactly once")
    return problems


def boundaries(stream: Any, sizes: Sequence[int] = (1, 2, 4, 8)) -> dict[str, int]:
    """Counts changes between numbers of devices, at each batch boundary of an epoch: all ("boundaries"), and those that lose
    an example ("wrong")."""
    steps = stream.steps if isinstance(stream, Bucketed) else -(-stream.epoch // stream.batch_size)
    possible = [size for size in sizes if size <= jax.device_count() and stream.batch_size % size == 0]
    read = {size: _by_devices(stream, steps, size) for size in possible}
    wrong = count = 0
    for a, b in itertools.product(read, repeat=2):
        for at in range(steps + 1):
            examples = np.concatenate([*read[a][:at], *read[b][at:]])[: stream.epoch]
            wrong += not np.array_equal(np.bincount(examples, minlength=stream.epoch), np.ones(stream.epoch, int))
            count += 1
    return {"boundaries": count, "wrong": wrong}


def _by_devices(stream: Any, steps: int, size: int) -> list[np.ndarray]:
    """The indices in the source that `size` devices, each its own rows, read in each step."""
    devices = mesh.make_mesh({"data": size, "model": 1}, jax.devices()[:size])
    indices = []
    for step in range(steps):
        slices = [rows for (rows,) in mesh.batch_sharding(devices).devices_indices_map((stream.size(step),)).values()]
        slices.sort(key=lambda rows: rows.start or 0)
        indices.append(np.concatenate([stream.numbers(step, rows)[0] for rows in slices]))
    return indices

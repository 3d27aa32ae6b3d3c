"""How a split is measured: in one way by the training loop and by every tool, so that their numbers agree."""

import contextlib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from research.core import metrics
from research.core.experiment import Evaluated, Experiment
from research.core.state import TrainState
from research.util.errors import UserError, nearest

# TrainState -> a context with that state on one local device: see `Run.on_one_device`.
Local = Callable[[TrainState], contextlib.AbstractContextManager[TrainState]]


def measurable(e: Experiment) -> list[str]:
    """Every split that can be measured, those of training first."""
    return list(dict.fromkeys([*e.splits, *e.evals, *e.at_end]))


def intervals(e: Experiment) -> dict[str, int]:
    """{split: steps between its evaluations in training}, in order: `cfg.eval_every`, or `cfg.evals[split].every`.

    A split whose `every` is None is measured by `almanac evaluate` alone. Raises UserError for an unknown split.
    """
    own, known = e.cfg.get("evals", {}), measurable(e)
    for split in own:
        if split not in known:
            raise UserError(f"evals.{split}: there is no such split{nearest(split, known)}")
    usual = e.cfg.eval_every
    every = dict.fromkeys(e.splits, usual) | {split: _own_interval(split, own[split], usual) for split in own}
    return {split: steps for split, steps in every.items() if steps is not None}


def _own_interval(split: str, group: Any, usual: int) -> int | None:
    steps = group
    if isinstance(group, Mapping):
        steps = group["every"] if "every" in group else usual  # None has a meaning of its own
    if not isinstance(group, Mapping) or steps is not None and (type(steps) is not int or steps < 0):
        raise UserError(
            f"evals.{split} = {steps!r}: set evals.{split}.every to steps, a text such as '3 epochs', or None"
        )
    return steps


def measure(
    e: Experiment,
    state: TrainState,
    split: str,
    folder: Path,
    mesh: Mesh,
    local: Local = contextlib.nullcontext,
    after_batch: Callable[[], Any] = lambda: None,
    keep: Callable[[Evaluated], Any] = lambda evaluated: None,
) -> Evaluated:
    """The metrics of one split: means over its batches, what `e.split_metrics` derives from them, and `e.evaluator`'s.

    `folder` is the run's directory, which an evaluator may read. `keep` is called with the evaluator's result while its state
    is on one device, since the files that it offers are written from that state. Collective: every process must enter.
    """
    values = {} if split in e.at_end else _of_batches(e, state, split, mesh, after_batch)
    if e.evaluator is None:
        return Evaluated(values)
    with local(state) as local_state:
        judged = e.evaluator(local_state, split, folder, after_batch)
        if unsaid := [name for name in judged.values if not any(fnmatchcase(name, known) for known in e.judged)]:
            raise ValueError(f"{split}: the evaluator measures {unsaid[0]!r}, which the experiment's `judged` lacks")
        keep(judged)
    return judged._replace(values={**values, **judged.values})


def _of_batches(e: Experiment, state: TrainState, split: str, mesh: Mesh, after_batch: Callable) -> dict[str, float]:
    if split not in e.evals or e.eval_step is None:
        return {}
    batches, rows = e.evals[split], []
    for batch in batches.on_device(mesh, 0, len(batches)):
        rows.append(e.eval_step(state, batch))
        after_batch()
    return e.split_metrics(metrics.reduce(jax.device_get(rows)))

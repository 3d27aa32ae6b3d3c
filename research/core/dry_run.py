"""Traces the steps of an experiment with shapes alone, which finds their faults before anything compiles."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
from jax.sharding import Mesh

from research.core import mesh as mesh_lib
from research.core import metrics
from research.core.experiment import Experiment
from research.core.state import TrainState
from research.util.errors import UserError, nearest


def abstract_batch(spec: Mapping[str, jax.ShapeDtypeStruct], mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """A batch's shapes and dtypes, with rows over the data axis."""
    rows = mesh_lib.batch_sharding(mesh)
    return {name: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=rows) for name, s in spec.items()}


def metric_names(
    e: Experiment, target: TrainState, mesh: Mesh, splits: Iterable[str], trains: bool = True
) -> dict[str, list[str]]:
    """{split: names of its means over batches}, for the splits that are measured in batches.

    `target` has the shapes and shardings of the state. Traces the evaluation of each, and, if it `trains`, the training step,
    whose compilation then need not trace it again. Raises UserError that names a loss term or a metric that is no scalar, and an
    array that is read and that the batches lack.
    """
    if trains:
        batch = abstract_batch(e.train.spec, mesh)
        with _named("training step", batch):
            e.train_step.eval_shape(target, batch)
    return {split: names for split in splits if (names := _of_split(e, target, split, mesh)) is not None}


def _of_split(e: Experiment, target: TrainState, split: str, mesh: Mesh) -> list[str] | None:
    spec = getattr(e.evals.get(split), "spec", None)
    if e.eval_step is None or spec is None:
        return None
    batch = abstract_batch(spec, mesh)
    with _named(f"evaluation of {split}", batch):
        sums = jax.eval_shape(e.eval_step, target, batch)
        metrics.check(sums)
    return list(sums)


@contextmanager
def _named(step: str, batch: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except KeyError as e:
        name = e.args[0] if e.args else None
        if not isinstance(name, str) or name in batch:
            raise
        known = nearest(name, batch) or "; there is none"
        raise UserError(f"the {step} reads an array {name!r}, which its batches lack{known}") from e

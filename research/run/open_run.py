"""A run in a notebook: its model, parameters and data, and what it makes of a value.

import research
run = research.open_run("runs/text_classification/pydoc_topics")
run.predict("the try statement and its except clauses")
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from research.core import evaluation, mesh
from research.core.config import TrackedConfig
from research.core.experiment import Experiment
from research.core.state import TrainState
from research.run import object_store, reopen
from research.util.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class OpenRun:
    """A run as one of its checkpoints left it, on one device. Nothing in its directory is changed.

    `experiment` is what the family builds of the config: the train step, the loss's data, the optimiser. `state` has the
    parameters, `state.params`, and those that prediction uses, `variables`: averaged ones if the run averages.
    """

    folder: Path
    experiment: Experiment
    state: TrainState

    @property
    def cfg(self) -> TrackedConfig:
        return self.experiment.cfg

    @property
    def model(self) -> Any:
        """The Linen module; None if the family has several networks."""
        return self.experiment.model

    @property
    def data(self) -> Any:
        return self.experiment.data

    @functools.cached_property
    def variables(self) -> dict:
        """{"params": ..., and mutable collections}: `run.model.apply(run.variables, ...)`."""
        return self.state.variables

    @property
    def step(self) -> int:
        return int(self.state.step)

    @functools.cached_property
    def _fn(self) -> Any:
        return jax.jit(self.experiment.predictor.fn)

    def predict(self, value: Any) -> Mapping[str, Any]:
        """What the model makes of one value, as `almanac predict` prints it: a text, (question, passage), a PIL image or array, a
        latent vector, a table. The family's README says which. Raises UserError if the value is none.
        """
        codec = self.experiment.predictor.codec
        return codec.decode(jax.device_get(self._fn(self.variables, codec.encode(value))))

    def evaluate(self, split: str = "valid") -> Mapping[str, float]:
        """{metric: value} of a split, as the log and `almanac evaluate` have it. Raises UserError if there is none."""
        splits = evaluation.measurable(self.experiment)
        if split not in splits:
            raise UserError(f"there is no split {split!r}{nearest(split, splits)}")
        devices = mesh.of(self.state.params)
        with jax.set_mesh(devices):
            return evaluation.measure(self.experiment, self.state, split, self.folder, devices).values


def open_run(folder: str | Path, checkpoint: str = "best") -> OpenRun:
    """Opens a run directory, or a copy made now of one at s3:// or gs://.

    `checkpoint` is "best" (the last, if no best is kept), "last" or a step. Raises UserError if there is no such run or
    checkpoint, or none is whole.
    """
    local = object_store.fetch(folder, newest=False)
    experiment, state, _ = reopen.load(local, checkpoint)
    return OpenRun(local, experiment, state)

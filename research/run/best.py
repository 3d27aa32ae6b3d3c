"""The best state of a run by `best.metric`, kept under best/, and early stopping."""

import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jax

from research.run.checkpoint import Checkpoints
from research.run.identity import Identity
from research.util import run_files
from research.util.errors import UserError, nearest

MODES = ("min", "max")
RECORD = run_files.Kind(
    "{value, step, stopped}",
    lambda v: (
        not run_files.Shape(
            {"value": run_files.maybe(run_files.NUMBER), "step": run_files.COUNT, "stopped": run_files.TRUTH}
        ).fault(v)
    ),
)


class Best:
    """`cfg` is a config's `best` group: metric as `split/name` (None: nothing is tracked), mode, and patience in steps.

    `record` is {"value", "step", "stopped"}: the best value so far, its step, and whether patience has run out.
    """

    def __init__(self, cfg: Mapping[str, Any], folder: Path, run: Identity | None):
        self._metric, self._mode, self._patience = (cfg[key] for key in ("metric", "mode", "patience"))
        self._folder, self._checkpoints = folder, Checkpoints(folder, 1, run=run)
        self.record: dict[str, Any] = {"value": None, "step": 0, "stopped": False}

    def check(self, splits: Sequence[str]) -> None:
        """Raises UserError for a metric of no split that is measured in training, and other values that mean nothing."""
        metric = self._metric
        if metric and (split := metric.split("/")[0]) not in splits:
            raise UserError(f"best.metric = {metric!r}: there is no such split in training{nearest(split, splits)}")
        if self._mode not in MODES:
            raise UserError(f"best.mode = {self._mode!r}: 'min' or 'max'")
        if self._patience and not metric:
            raise UserError(f"best.patience = {self._patience} needs a best.metric")
        if self._patience is not None and self._patience < 0:
            raise UserError(f"best.patience = {self._patience}: steps, at least 0; None never stops")

    def check_name(
        self,
        means: Mapping[str, Sequence[str]],
        split_metrics: Callable[[dict], Mapping[str, float]],
        judged: Sequence[str],
    ) -> None:
        """Raises UserError for a metric that its split does not have: `means` has the names of means over batches by split,
        `split_metrics` derives others from these, and `judged` are those of the evaluator."""
        split, _, name = (self._metric or "").partition("/")
        if split not in means and not judged:  # such as an agent's own play: it is known when it is measured
            return
        means_of = dict.fromkeys(means.get(split, ()), 1.0)
        names = {*(split_metrics(means_of) if means_of else ()), *judged}
        if name and not any(fnmatchcase(name, known) for known in names):
            raise UserError(f"best.metric = {self._metric!r}: {split} has no such metric{nearest(name, names)}")

    def track(self, step: int, split: str, values: Mapping[str, float]) -> str:
        """Compares the metrics of a split at `step`. -> the line that says that training ends here, or ""."""
        metric, best = self._metric, self.record["value"]
        if not metric or not metric.startswith(f"{split}/"):
            return ""
        name = metric.removeprefix(f"{split}/")
        if name not in values:
            raise UserError(f"best.metric = {metric!r} is not measured; there are {split}/{f', {split}/'.join(values)}")
        value = values[name]
        if not math.isnan(value) and (best is None or (value < best if self._mode == "min" else value > best)):
            self.record |= {"value": value, "step": step}
        elif self._patience and best is not None and step - self.record["step"] >= self._patience:
            self.record["stopped"] = True
            return f"stopped at step {step:,}: {metric} has not improved on {best:.4f} for {self._patience:,} steps"
        return ""

    def save(self, step: int, state: Any) -> None:
        """Saves the state under best/ if it is the best so far."""
        if self.record["value"] is not None and self.record["step"] == step:
            self._checkpoints.save(step, state, {"tracker": self.record})

    def restore(self, state: Any) -> Any:
        """The best state saved; `state` if none was. Raises NoWholeCheckpoint if it is damaged."""
        reader = Checkpoints(self._folder)
        try:
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
            return reader.restore(shapes)[0] if reader.steps() else state
        finally:
            reader.close()

    def wait(self) -> None:
        self._checkpoints.wait()

    def close(self) -> None:
        self._checkpoints.close()

"""In-context regression: prompts of linear functions, and the conversion from a table of examples to a prediction.

A prompt is x_1, y_1, ..., x_n, y_n, drawn anew at every step (Garg et al. 2022, 2208.01066): x ~ N(0, I_d),
w ~ N(0, I_d) for each prompt, y = w x + noise. Early steps have fewer dimensions (the other coordinates of x are 0) and
fewer pairs: the paper's curriculum (appendix A.2), as a function of the step.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.core.experiment import Baseline, Codec, Dataset
from research.data import codecs, user_files
from research.data.pipeline import Arrays, EvalBatches, TrainBatches
from research.data.synthetic import regression_baselines
from research.util.errors import UserError

CURRICULUM = ("dims", "points")  # the quantities that grow during training


class InContextRegression(Dataset):
    """Batches {"x": f32[B, n, d], "y": f32[B, n]}; in training also "point_mask", in evaluation "clean", y without noise.

    cfg     a config's `data` group, durations in steps
    dims    d of a full prompt; points: its n; noise: the standard deviation of the noise in y
    """

    def __init__(self, cfg: Mapping[str, Any], seed: int):
        self.dims, self.points, self.noise = cfg["dims"], cfg["points"], cfg["noise"]
        ramps = {k: Ramp(cfg[f"{k}_start"], cfg[k], cfg[f"{k}_by"], cfg[f"{k}_every"]) for k in CURRICULUM}
        prompts = Prompts(**ramps, noise=self.noise, batch_size=cfg["batch_size"], seed=seed)
        self.held_out = held_out(prompts, cfg["eval_size"])
        self.train = TrainBatches(prompts, cfg["batch_size"], seed)
        self.evals = {"valid": EvalBatches(Arrays(self.held_out), cfg["eval_batch_size"])}
        self.report: list[str] = []
        self.codec = Table(self.dims, self.points)

    @functools.cached_property
    def errors(self) -> dict[str, np.ndarray]:
        """{predictor: mean squared error against the noiseless y after 0..n-1 examples, f64[n]}.

        Solves n systems for each held-out prompt, on first access.
        """
        x, y = self.held_out["x"], self.held_out["y"]
        predictions = {
            "least squares": regression_baselines.least_squares(x, y),
            "ridge": regression_baselines.ridge(x, y, self.noise**2) if self.noise else None,
            "averaging": regression_baselines.averaging(x, y),
            "3 nearest": regression_baselines.nearest_neighbours(x, y),
            "always 0": np.zeros(y.shape),
        }
        return {k: np.square(v - self.held_out["clean"]).mean(0) for k, v in predictions.items() if v is not None}

    def baselines(self) -> Mapping[str, Baseline]:
        """All but least squares, whose expected error is infinite after as many noisy examples as dimensions."""
        means = {name: float(np.mean(errors)) for name, errors in self.errors.items() if name != "least squares"}
        return {"valid/error": Baseline(means)}


@codecs.register("regression_table")
@dataclasses.dataclass(frozen=True)
class Table(Codec):
    """A table of up to `points` examples of `dims` numbers and y <-> the y of the last."""

    dims: int
    points: int

    takes = "table"

    @property
    def inputs(self) -> dict[str, tuple]:
        return {"x": (("b", "n", self.dims), "float32"), "y": (("b", "n"), "float32")}

    @property
    def constraints(self) -> list[str]:
        return [f"n <= {self.points}"]

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """Examples f32[n, d + 1], each x and y, the last y NaN -> {"x": f32[1, n, d], "y": f32[1, n]}."""
        table = np.asarray(value, np.float32)
        if table.ndim != 2 or table.shape[1] != self.dims + 1 or not 1 <= len(table) <= self.points:
            shape = " x ".join(map(str, table.shape))
            raise UserError(f"the table is {shape}: want 1 to {self.points} lines of {self.dims} numbers and y")
        if np.isnan(table[:-1]).any() or np.isnan(table[-1, :-1]).any():
            raise UserError("a number is missing; only the last line's y may be")
        return {"x": table[None, :, :-1], "y": np.nan_to_num(table[None, :, -1])}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, float]:
        """-> the prediction for the last example."""
        return {"y": round(float(outputs["y"][0, -1]), 4)}

    def read(self, file: Path) -> np.ndarray:
        """A CSV file, d numbers and y per line, the last y empty -> f32[n, d + 1]. Raises UserError if it cannot be read."""
        rows = list(user_files.records(file, ","))
        if bad := next((row for row in rows if len(row.cells) != len(rows[0].cells)), None):
            raise UserError(
                f"cannot read {file} as a CSV: {bad.place} has {len(bad.cells)} cells, the first {len(rows[0].cells)}"
            )
        return np.array([[_number(cell) for cell in row.cells] for row in rows], np.float32, ndmin=2)


def _number(cell: str) -> float:
    """The number of a cell; NaN if it holds none."""
    try:
        return float(cell)
    except ValueError:
        return np.nan


class Ramp(NamedTuple):
    """An integer that begins at `start` and grows by `by` every `every` steps, up to `end`.

    >>> [Ramp(start=5, end=8, by=2, every=10).at(step) for step in (0, 9, 10, 20)]
    [5, 5, 7, 8]
    """

    start: int
    end: int
    by: int
    every: int

    def at(self, step: int) -> int:
        return min(self.start + step // self.every * self.by, self.end)


@dataclasses.dataclass(frozen=True)
class Prompts:
    """A source whose epochs are steps: each has `batch_size` new prompts.

    `gather` -> {"x": f32[B, n, d], "y": f32[B, n], "point_mask": f32[B, n]}, 0 for points beyond the curriculum's.
    """

    dims: Ramp
    points: Ramp
    noise: float
    batch_size: int
    seed: int

    def __post_init__(self):
        for name, ramp in (("dims", self.dims), ("points", self.points)):
            if not 1 <= ramp.start <= ramp.end:
                raise UserError(f"data.{name}_start = {ramp.start}: from 1 to data.{name} = {ramp.end}")
            if ramp.by < 1 or ramp.every < 1:
                raise UserError(f"data.{name}_by = {ramp.by}, data.{name}_every = {ramp.every}: at least 1")
        if not self.noise >= 0:
            raise UserError(f"data.noise = {self.noise}: at least 0")

    def __len__(self) -> int:
        return self.batch_size

    def gather(self, indices: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self.seed, epoch, 0))
        prompts = draw(rng, self.batch_size, self.points.end, self.dims.end, self.noise, self.dims.at(epoch))
        mask = np.broadcast_to(np.arange(self.points.end) < self.points.at(epoch), prompts["y"].shape)
        return {"x": prompts["x"][indices], "y": prompts["y"][indices], "point_mask": mask[indices].astype(np.float32)}


def held_out(prompts: Prompts, size: int) -> dict[str, np.ndarray]:
    """`size` prompts of full length and dimension, none of them in training, with the noiseless y, `clean` f32[size, n]."""
    if size < 1:
        raise UserError(f"data.eval_size = {size}: at least 1")
    rng = np.random.default_rng((prompts.seed, 0, 1))
    return draw(rng, size, prompts.points.end, prompts.dims.end, prompts.noise, prompts.dims.end)


def draw(rng: np.random.Generator, size: int, points: int, dims: int, noise: float, used: int) -> dict[str, np.ndarray]:
    """{"x": f32[size, points, dims], "y", "clean": f32[size, points]}; coordinates of x from `used` on are 0."""
    x = rng.standard_normal((size, points, dims))
    x[..., used:] = 0
    clean = np.einsum("bnd,bd->bn", x, rng.standard_normal((size, dims)))
    y = clean + noise * rng.standard_normal(clean.shape)
    return {k: v.astype(np.float32) for k, v in {"x": x, "y": y, "clean": clean}.items()}

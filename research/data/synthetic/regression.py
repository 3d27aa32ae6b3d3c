"""Prompts of linear functions: x_1, y_1, ..., x_n, y_n, drawn anew at every step (Garg et al. 2022, 2208.01066).

x ~ N(0, I_d), one w ~ N(0, I_d) a prompt, y = w x + noise. Early steps see fewer dimensions (the other
coordinates of x are 0) and fewer pairs: the paper's curriculum (appendix A.2), here a function of the step.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from research.util.errors import UserError


class Ramp(NamedTuple):
    """A whole number that starts at `start` and grows by `by` after every `every` steps, up to `end`."""

    start: int
    end: int
    by: int
    every: int

    def at(self, step: int) -> int:
        return min(self.start + step // self.every * self.by, self.end)


@dataclasses.dataclass(frozen=True)
class Prompts:
    """A source whose epochs are steps: `batch_size` prompts each, which nobody sees again.

    `gather` -> {"x": f32[B, n, d], "y": f32[B, n], "point_mask": f32[B, n]}, 1 where the curriculum has come to.
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
        drawn = draw(rng, self.batch_size, self.points.end, self.dims.end, self.noise, self.dims.at(epoch))
        mask = np.broadcast_to(np.arange(self.points.end) < self.points.at(epoch), drawn["y"].shape)
        return {"x": drawn["x"][indices], "y": drawn["y"][indices], "point_mask": mask[indices].astype(np.float32)}


def held_out(prompts: Prompts, size: int) -> dict[str, np.ndarray]:
    """`size` prompts of full length and dimension that no step draws, with the noiseless values `clean` f32[size, n]."""
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

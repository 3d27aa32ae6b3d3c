"""What a config says of the process: its noise, what is predicted, and how the error weighs."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.generation import diffusion
from research.losses.diffusion import min_snr_weights
from research.nn.from_config import choose
from research.util.errors import UserError, nearest


class Process(NamedTuple):
    """signal f32[T + 1], and `predicts`, as in research/generation/diffusion.py; `min_snr` limits weights, None: they are 1."""

    signal: np.ndarray
    predicts: str
    min_snr: float | None

    @property
    def last(self) -> int:
        """T."""
        return len(self.signal) - 1

    def weights(self, signal: Any) -> jax.Array:
        """Of the squared error where `signal` is left, f32[B]."""
        if self.min_snr is None:
            return jnp.ones(jnp.shape(signal))
        return min_snr_weights(jnp.asarray(signal), self.predicts, self.min_snr)

    def linear_denoiser(self, train: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
        """The loss on held-out pictures of the best linear denoiser of training pictures, f32[n, Y, X, C] in 0..1.

        It takes pictures for a Gaussian of the training pictures' mean and covariance, and so keeps of each principal component
        the share signal * v / (signal * v + 1 - signal), v its variance. The expectation over the noise is exact.
        """
        train, held_out = (2 * part.reshape(len(part), -1).astype(np.float64) - 1 for part in (train, held_out))
        v, vectors = np.linalg.eigh(np.cov(train, rowvar=False))
        squares = np.square((held_out - train.mean(0)) @ vectors).mean(0)
        left = self.signal[1:, None].astype(np.float64)
        kept = left * v / (left * v + 1 - left)
        errors = np.mean((1 - kept) ** 2 * squares + kept**2 * (1 - left) / left, axis=1)  # of the picture
        left = left[:, 0]
        errors *= {"picture": 1, "noise": left / (1 - left), "velocity": 1 / (1 - left)}[self.predicts]
        return {"linear denoiser": float(np.mean(errors * np.asarray(self.weights(self.signal[1:]), np.float64)))}


def make(cfg: Mapping[str, Any]) -> Process:
    """The process of a config's `diffusion` group. Raises UserError for what it cannot be."""
    schedule = choose(diffusion.SCHEDULES, cfg["schedule"], "diffusion.schedule")
    if not 1 <= cfg["times"] <= 10_000:
        raise UserError(f"diffusion.times = {cfg['times']}: from 1 to 10,000")
    if cfg["predicts"] not in diffusion.PREDICTIONS:
        raise UserError(f"diffusion.predicts = {cfg['predicts']!r}{nearest(cfg['predicts'], diffusion.PREDICTIONS)}")
    if cfg["min_snr"] is not None and not cfg["min_snr"] > 0:
        raise UserError(f"diffusion.min_snr = {cfg['min_snr']}: above 0, or None")
    return Process(schedule(cfg["times"]), cfg["predicts"], cfg["min_snr"])

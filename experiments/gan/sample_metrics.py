"""What samples are measured by: mode coverage for the grid of Gaussians, for images a classifier's features."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.algorithms.sample_metrics import QUALITY, QUALITY_TEST, ClassifierMetrics
from research.core.experiment import Evaluated
from research.data.latents import Latents
from research.data.synthetic import mixtures
from research.evals import generative, images

NUM_POINTS = 2_500  # as in PacGAN's evaluation


class SampleMetrics:
    """The evaluator: measures and plots samples. Those that are measured always have the same latent vectors.

    fn         (variables, {"z": f32[B, latent]}) -> {"x": f32[B, ...]}
    count      of samples
    measure    (samples f32[n, ...], split) -> {name: value}
    plot       (path, samples) writes an image
    at_end     splits that are measured once
    """

    def __init__(
        self, fn: Callable, latent: int, seed: int, count: int, measure: Callable, plot: Callable, at_end: list[str]
    ):
        self._key, self._latent, self._count = jax.random.fold_in(jax.random.key(seed), 1), latent, count
        self._fn, self._measure, self._plot, self.at_end = jax.jit(fn), measure, plot, at_end

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable = lambda: None) -> Evaluated:
        after_batch()  # there is one batch
        values = self._measure(self._samples(state, self._key), split)
        return Evaluated(values, {"samples.png": partial(self.draw, state)} if split == QUALITY else {})

    def draw(self, state: Any, path: Path, key: jax.Array | None = None) -> None:
        """Writes an image of samples: of new ones from `key`, or without a key of those that are measured."""
        self._plot(path, self._samples(state, self._key if key is None else key))

    def _samples(self, state: Any, key: jax.Array) -> np.ndarray:
        z = jax.random.normal(key, (self._count, self._latent))
        return np.asarray(self._fn(state.variables, {"z": z})["x"], np.float32)


def make(fn: Callable, data: Latents, seed: int) -> SampleMetrics:
    """The evaluator for a data set. `fn`: (variables, {"z": f32[B, Z]}) -> {"x": f32[B, ...]}."""
    if data.images is None:
        return SampleMetrics(fn, data.latent, seed, NUM_POINTS, _modes, _scatter, [])
    metrics = ClassifierMetrics(data.images)
    at_end = [split for split in metrics.splits if split == QUALITY_TEST]
    return SampleMetrics(fn, data.latent, seed, metrics.count, metrics, _tiles, at_end)


def describe(source: str) -> str:
    """A line for the report on how samples are measured, for a `data.source`."""
    of_images = "measured by as many samples as training images and a classifier trained here"
    return f"measured by {NUM_POINTS:,} samples: modes of 25" if source == "grid" else of_images


def _modes(samples: np.ndarray, split: str) -> dict[str, float]:
    del split  # there is one
    return generative.mode_coverage(samples, mixtures.GRID_CENTRES, mixtures.GRID_STD)


def _scatter(path: Path, samples: np.ndarray) -> None:
    images.save_scatter(path, samples, mixtures.GRID_CENTRES)


def _tiles(path: Path, samples: np.ndarray) -> None:
    images.save_tiles(path, samples[:100], 10)

"""What samples are measured by: mode coverage for the grid of Gaussians, for images a classifier's features."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.algorithms.sample_metrics import METRICS, QUALITY, QUALITY_TEST, ClassifierMetrics
from research.core.experiment import Evaluated
from research.data.latents import Latents
from research.data.synthetic import mixtures
from research.data.with_class import class_number
from research.evals import generative, images

NAMES = (*METRICS, "modes", "high_quality", "reverse_kl")
NUM_POINTS = 2_500  # as in PacGAN's evaluation
SHOWN, COLUMNS = 100, 10  # pictures of the image of samples


class SampleMetrics:
    """The evaluator: measures and plots samples. Those that are measured always have the same latent vectors.

    fn         (variables, {"z": f32[B, latent], of a conditional model "label": i32[B]}) -> {"x": f32[B, ...]}
    codec      of the data
    count      of samples
    measure    (samples f32[n, ...], split) -> {name: value}
    plot       (path, samples) writes an image
    at_end     splits that are measured once
    labels     of a conditional model: the classes of the samples that are measured, i32[count]
    """

    def __init__(
        self, fn: Callable, codec: Any, latent: int, seed: int, count: int, measure: Callable, plot: Callable,
        at_end: list[str], labels: np.ndarray | None = None,
    ):  # fmt: skip
        self._key, self._latent, self._count = jax.random.fold_in(jax.random.key(seed), 1), latent, count
        self._fn, self._measure, self._plot, self.at_end = jax.jit(fn), measure, plot, at_end
        self._codec, self._labels = codec, labels

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable = lambda: None) -> Evaluated:
        after_batch()  # there is one batch
        values = self._measure(self._samples(state, self._key, self._labels), split)
        return Evaluated(values, {"samples.png": partial(self.draw, state)} if split == QUALITY else {})

    def draw(self, state: Any, path: Path, key: jax.Array | None = None, label: str | None = None) -> None:
        """Writes an image of samples: of new ones from `key`, or without a key of the latent vectors that are measured.

        Of a conditional model a row is of one class, or all are of the class named `label`. Raises UserError if there is none.
        """
        classes = None
        if self._labels is not None:
            classes = np.arange(self._count) // COLUMNS % len(self._codec.classes)
        if label is not None:
            classes = np.full(self._count, class_number(self._codec, label))
        self._plot(path, self._samples(state, self._key if key is None else key, classes))

    def _samples(self, state: Any, key: jax.Array, labels: np.ndarray | None) -> np.ndarray:
        inputs = {"z": jax.random.normal(key, (self._count, self._latent))}
        if labels is not None:
            inputs["label"] = jnp.asarray(labels, jnp.int32)
        return np.asarray(self._fn(state.variables, inputs)["x"], np.float32)


def make(fn: Callable, data: Latents, seed: int) -> SampleMetrics:
    """The evaluator for a data set. `fn`: (variables, {"z": f32[B, Z], ...}) -> {"x": f32[B, ...]}.

    The measured samples of a conditional model have the training pictures' shares of classes.
    """
    if data.images is None:
        return SampleMetrics(fn, data.codec, data.latent, seed, NUM_POINTS, _modes, _scatter, [])
    metrics = ClassifierMetrics(data.images)
    at_end = [split for split in metrics.splits if split == QUALITY_TEST]
    labels = None
    if "label" in data.codec.inputs:
        labels = np.random.default_rng(0).permutation(data.images.train.labels())[: metrics.count]
    return SampleMetrics(fn, data.codec, data.latent, seed, metrics.count, metrics, _tiles, at_end, labels)


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
    images.save_tiles(path, samples[:SHOWN], COLUMNS)

"""What a denoiser is measured by besides its loss: samples, and their distance from held-out pictures."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.diffusion.data import Pictures
from experiments.diffusion.sampler import Sampler
from research.algorithms.sample_metrics import ClassifierMetrics
from research.core.experiment import Evaluated
from research.data.with_class import class_number
from research.evals import images

SAMPLES, COLUMNS = 100, 10  # of the picture of samples


class Evaluation:
    """The evaluator: draws samples of the first held-out split; at the end, if `measured`, `ClassifierMetrics` of samples.

    Samples that are measured have the training pictures' shares of classes, and the same keys in every run.
    """

    def __init__(self, sampler: Sampler, data: Pictures, measured: bool):
        self.sampler, self._data = sampler, data
        self._first = next(iter(data.evals))
        self.metrics = ClassifierMetrics(data.images) if measured else None
        self.at_end = self.metrics.splits if self.metrics else []

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        if split in self.at_end:
            return Evaluated(self._measure(state.variables, split, after_batch))
        return Evaluated({}, {"samples.png": partial(self.draw_samples, state)} if split == self._first else {})

    def _measure(self, variables: Any, split: str, after_batch: Callable[[], Any]) -> dict[str, float]:
        labels = np.random.default_rng(0).permutation(self._data.images.train.labels())[: self.metrics.count]
        return self.metrics(self.sampler(variables, jax.random.key(1), labels, after_batch=after_batch), split)

    def draw_samples(
        self, state: Any, path: Path, key: jax.Array | None = None, label: str | None = None, **options: Any
    ) -> None:
        """Writes SAMPLES pictures; of a conditional model a row is of one class, or all are of the class named `label`."""
        labels = np.arange(SAMPLES) // COLUMNS % len(self._data.classes)
        if label is not None:
            labels = np.full(SAMPLES, class_number(self._data.codec, label))
        key = jax.random.key(0) if key is None else key
        images.save_tiles(path, self.sampler(state.variables, key, labels, **options), COLUMNS)

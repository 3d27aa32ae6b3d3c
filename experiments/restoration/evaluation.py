"""Restored pictures beside their originals, and how far apart they are to a network."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from experiments.restoration.damage import resized
from experiments.restoration.data import Restoration
from research.core.experiment import Evaluated
from research.evals import images

ROWS, AMONG = 4, 500  # the pictures shown: those whose estimate is farthest from the original, among so many


class Evaluation:
    """The evaluator: the distance to the data's `features`, if it has any, and of the first held-out split "restored.png"."""

    def __init__(self, predict: Callable, data: Restoration):
        self._predict, self._data = jax.jit(predict), data
        self._first = next(iter(data.evals))

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        values = self._measure(state, split, after_batch) if self._data.features else {}
        return Evaluated(values, {"restored.png": partial(self.draw, state, split)} if split == self._first else {})

    def _measure(self, state: Any, split: str, after_batch: Callable[[], Any]) -> dict[str, float]:
        distances, batches = [], self._data.evals[split]
        for start in range(0, len(batches.source), batches.batch_size):
            rows = batches.source.gather(np.arange(start, min(start + batches.batch_size, len(batches.source))), 0)
            restored = self._predict(state.variables, rows)["image"]
            distances.append(self._data.distance(restored, rows["image"], rows["hidden"]))
            after_batch()
        return {"feature_distance": float(np.concatenate(distances).mean())}

    def draw(self, state: Any, split: str, path: Path) -> None:
        """Writes rows of: the original, what the damage leaves, the classical estimate, the network's picture."""
        source = self._data.evals[split].source
        first = source.gather(np.arange(min(AMONG, len(source))), 0)
        errors = np.square(first["estimate"] - first["image"]).mean((1, 2, 3))
        rows = {name: x[np.argsort(-errors)[:ROWS]] for name, x in first.items()}
        restored = np.asarray(self._predict(state.variables, rows)["image"])
        Y, X, _ = self._data.shape
        damaged = resized(self._data.damage.apply(rows["image"]), Y, X, Image.Resampling.NEAREST)
        columns = [rows["image"], damaged, rows["estimate"], restored]
        images.save_tiles(path, np.stack(columns, 1).reshape(-1, *self._data.shape), len(columns))

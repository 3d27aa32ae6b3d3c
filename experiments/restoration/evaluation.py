"""Restored pictures beside their originals."""

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
    """The evaluator: of the first held-out split "restored.png"; it measures nothing."""

    def __init__(self, predict: Callable, data: Restoration):
        self._predict, self._data = jax.jit(predict), data
        self._first = next(iter(data.evals))

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        if split != self._first:
            return Evaluated({})
        return Evaluated({}, {"restored.png": partial(self.draw, state, split)})

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

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

ROWS = 6  # pictures that are shown, evenly spaced over the part


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
        rows = source.gather(np.linspace(0, len(source) - 1, min(ROWS, len(source))).astype(int), 0)
        restored = np.asarray(self._predict(state.variables, rows)["image"])
        Y, X, _ = self._data.shape
        damaged = resized(self._data.damage.apply(rows["image"]), Y, X, Image.Resampling.NEAREST)
        columns = [rows["image"], damaged, rows["estimate"], restored]
        images.save_tiles(path, np.stack(columns, 1).reshape(-1, *self._data.shape), len(columns))

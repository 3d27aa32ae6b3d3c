"""Pictures of what a segmenter sees: beside each other a picture, its labels, and the predicted ones."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.segmentation.data import Segmentation
from research.core.experiment import Evaluated
from research.data.images import label_maps
from research.evals import images

ROWS, SIDE = 3, 256  # of each picture the upper left corner of SIDE pixels at most


class Evaluation:
    """The evaluator: of the first held-out split "predictions.png"; it measures nothing."""

    def __init__(self, predict: Callable, data: Segmentation):
        self._predict, self._data = jax.jit(predict), data
        self._first = next(iter(data.evals))

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        if split != self._first:
            return Evaluated({})
        return Evaluated({}, {"predictions.png": partial(self._draw, state)})

    def _draw(self, state: Any, path: Path) -> None:
        source = self._data.evals[self._first].source
        tiles: list[np.ndarray] = []
        for i in range(min(ROWS, len(source))):
            row = source.gather(np.array([i]), 0)
            predicted = np.asarray(self._predict(state.variables, row)["probabilities"])[0].argmax(-1)
            picture = np.broadcast_to(row["image"][0], (*predicted.shape, 3))
            tiles += [picture, *(label_maps.coloured(x) / np.float32(255) for x in (row["label"][0], predicted))]
        shown = np.pad(np.stack(tiles)[:, :SIDE, :SIDE], ((0, 0), (1, 1), (1, 1), (0, 0)))
        images.save_png(path, images.grid(shown, 3), scale=max(1, 128 // shown.shape[1]))

"""Of whole predictions: pictures beside their labels, and how well the objects of a class are found."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.segmentation.data import Segmentation
from experiments.segmentation.objects import separate
from research.core.experiment import Evaluated
from research.data.defaults import VOID
from research.data.images import label_maps
from research.evals import images, instances

ROWS, SIDE = 3, 256  # of each picture the upper left corner of SIDE pixels at most


class Evaluation:
    """The evaluator: "predictions.png" of the first held-out split; with `objects`, a class, the metrics of its objects."""

    def __init__(self, predict: Callable, data: Segmentation, objects: str | None, markers: float | None):
        self._predict, self._data, self._markers = jax.jit(predict), data, markers
        self._objects = None if objects is None else data.classes.index(objects)
        self._first = next(iter(data.evals))

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        values = {} if self._objects is None else self._measure(state, split, self._objects, after_batch)
        return Evaluated(values, {"predictions.png": partial(self._draw, state)} if split == self._first else {})

    def _measure(self, state: Any, split: str, k: int, after_batch: Callable[[], Any]) -> dict[str, float]:
        """AP at each IoU and PQ are of all pictures together, the adapted Rand error is the mean over those with an object."""
        source, shared = self._data.evals[split].source, []
        for i in range(len(source)):
            row = source.gather(np.array([i]), 0)
            label, probabilities = row["label"][0], np.asarray(self._predict(state.variables, row)["probabilities"])[0]
            inside = (probabilities.argmax(-1) == k) & (label != VOID)
            predicted = separate(probabilities[..., k], inside, self._markers)
            shared.append(instances.overlaps(predicted, separate(probabilities[..., k], label == k)))
            after_batch()
        return objects_found(shared)

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


def objects_found(shared: list[np.ndarray]) -> dict[str, float]:
    """The metrics of pictures' `instances.overlaps`."""
    matches = {least: [instances.match(each, least) for each in shared] for least in instances.IOUS}
    precisions = {least: instances.average_precision(each) for least, each in matches.items()}
    return {
        "ap50": precisions[0.5],
        "mean_ap": float(np.mean(list(precisions.values()))),
        **instances.panoptic_quality(matches[0.5]),
        "adapted_rand_error": float(np.nanmean([instances.adapted_rand_error(each) for each in shared])),
    }

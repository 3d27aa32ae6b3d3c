"""Of whole predictions: pictures beside their labels, and how well the objects of a class are found."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.segmentation.data import Segmentation
from experiments.segmentation.objects import separate
from research.core import metrics
from research.core.experiment import Evaluated
from research.data.defaults import VOID
from research.data.images import label_maps
from research.evals import images, instances

ROWS, SIDE = 3, 256  # of each picture the upper left corner of SIDE pixels at most


class Evaluation:
    """The evaluator: "predictions.png" of the first held-out split, with pictures, labels and predicted labels."""

    def __init__(self, predict: Callable, data: Segmentation):
        self._predict, self._data = jax.jit(predict), data

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        return Evaluated({}, files(self._data, split, partial(self._draw, state, split)))

    def _draw(self, state: Any, split: str, path: Path) -> None:
        source, rows = self._data.evals[split].source, []
        for i in range(min(ROWS, len(source))):
            row = source.gather(np.array([i]), 0)
            predicted = np.asarray(self._predict(state.variables, row)["probabilities"])[0].argmax(-1)
            rows.append((row["image"][0], row["label"][0], predicted))
        draw(rows, path)


class ObjectEvaluation:
    """The evaluator of a run with objects, those of the class number `k`: all metrics of a split, by one prediction a picture.

    eval_step      (state, batch) -> (metric sums of the batch, probabilities f32[B, Y, X, N])
    split_metrics  {name: mean over the split} -> the same with what derives from means

    "predictions.png" has pictures, true and predicted objects.
    """

    METRICS = (
        "loss", "accuracy", "iou/*", "mean_iou", "mean_dice", "ap50", "mean_ap", "pq", "sq", "rq", "adapted_rand_error",
    )  # fmt: skip

    def __init__(self, eval_step: Callable, split_metrics: Callable, data: Segmentation, k: int, markers: float | None):
        self._eval_step, self._split_metrics = eval_step, split_metrics
        self._data, self._k, self._markers = data, k, markers

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        """AP at each IoU and PQ are of all pictures together, the adapted Rand error is the mean over those with an object."""
        batches, sums, shared, rows = self._data.evals[split], [], [], []
        for i in range(len(batches)):
            batch = batches.batch(i)
            of_batch, probabilities = jax.device_get(self._eval_step(state, batch))
            sums.append(of_batch)
            for row in np.flatnonzero(batch["mask"]):
                number = i * batches.batch_size + row
                true, predicted = self._objects(split, number, batch["label"][row], probabilities[row])
                shared.append(instances.overlaps(predicted, true))
                if number < ROWS:
                    rows.append((batch["image"][row], shown(true), shown(predicted)))
            after_batch()
        values = self._split_metrics(metrics.reduce(sums)) | objects_found(shared)
        return Evaluated(values, files(self._data, split, partial(draw, rows)))

    def _objects(self, split: str, number: int, label: np.ndarray, probabilities: np.ndarray) -> tuple:
        """The true and the predicted objects, i[Y, X], of the split's picture `number`. Void pixels are ground in both."""
        probability = probabilities[..., self._k]
        predicted = separate(probability, (probabilities.argmax(-1) == self._k) & (label != VOID), self._markers)
        numbers = self._data.objects.get(split)
        return (separate(probability, label == self._k) if numbers is None else numbers[number].astype(int)), predicted


def files(data: Segmentation, split: str, writer: Callable[[Path], Any]) -> dict[str, Callable[[Path], Any]]:
    """{"predictions.png": what writes it} of the first held-out split, of the others nothing."""
    return {"predictions.png": writer} if split == next(iter(data.evals)) else {}


def shown(numbers: np.ndarray) -> np.ndarray:
    """Objects as labels, i[Y, X] from 0 to 254: numbers beyond begin again at 1."""
    return np.where(numbers > 0, (numbers.astype(np.int64) - 1) % (VOID - 1) + 1, 0)


def draw(rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]], path: Path) -> None:
    """Writes (image f32[Y, X, C], labels i[Y, X], predicted labels i[Y, X]) row by row as one picture."""
    tiles: list[np.ndarray] = []
    for image, *labels in rows:
        tiles += [
            np.broadcast_to(image, (*image.shape[:2], 3)),
            *(label_maps.coloured(x) / np.float32(255) for x in labels),
        ]
    padded = np.pad(np.stack(tiles)[:, :SIDE, :SIDE], ((0, 0), (1, 1), (1, 1), (0, 0)))
    images.save_png(path, images.grid(padded, 3), scale=max(1, 128 // padded.shape[1]))


def objects_found(shared: list[np.ndarray]) -> dict[str, float]:
    """The metrics of pictures' `instances.overlaps`."""
    matches = {least: [instances.match(each, least) for each in shared] for least in instances.IOUS}
    errors = [instances.adapted_rand_error(each) for each in shared]
    precisions = {least: instances.average_precision(each) for least, each in matches.items()}
    return {
        "ap50": precisions[0.5],
        "mean_ap": float(np.mean(list(precisions.values()))),
        **instances.panoptic_quality(matches[0.5]),
        "adapted_rand_error": float("nan") if np.isnan(errors).all() else float(np.nanmean(errors)),
    }

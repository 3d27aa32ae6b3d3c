"""Segmentation, as sums over pixels: `by_class` is for `batch_metrics`, `add_means` for `split_metrics`."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int

from research.core.arrays import Array
from research.core.metrics import MetricSums
from research.util.errors import UserError


def confusion(
    predictions: Int[Array, "B Y X"],
    labels: Int[Array, "B Y X"],
    num_classes: int,
    mask: Float[Array, " B"] | None = None,
) -> Float32[Array, "N N"]:
    """The number of pixels of class i that are predicted as j, [i, j]; void pixels and rows of mask 0 are left out.

    Matrices of batches and devices add up. Exact up to 2^24 pixels of a cell.

    >>> confusion(jnp.array([[[0, 1, 1]]]), jnp.array([[[0, 0, 255]]]), 2).tolist()  # 255 is void
    [[1.0, 1.0], [0.0, 0.0]]
    """
    rows = jnp.ones(len(labels)) if mask is None else mask
    true = jax.nn.one_hot(labels, num_classes) * rows[:, None, None, None]  # zero where void
    return jnp.einsum("byxi,byxj->ij", true, jax.nn.one_hot(predictions, num_classes))


def by_class(matrix: Float[Array, "N N"], classes: Sequence[str]) -> MetricSums:
    """{"iou/CLASS": (intersection, union), "accuracy": (right pixels, pixels)} of a confusion matrix.

    A name's spaces become underscores. Raises UserError if that makes two classes one.
    """
    right, true, predicted = jnp.diagonal(matrix), matrix.sum(1), matrix.sum(0)
    sums = {
        f"iou/{name.replace(' ', '_')}": (right[i], true[i] + predicted[i] - right[i]) for i, name in enumerate(classes)
    }
    if len(sums) < len(classes):
        raise UserError(f"two classes have one name in the log, {', '.join(sums)}: rename one of {', '.join(classes)}")
    return {"accuracy": (right.sum(), matrix.sum()), **sums}


def add_means(means: dict[str, float]) -> dict[str, float]:
    """Adds "mean_iou" and "mean_dice" over classes; a class that neither occurs nor is predicted is left out.

    Dice's coefficient of a class is 2 IoU / (1 + IoU).
    """
    kept = {name: value for name, value in means.items() if not (name.startswith("iou/") and np.isnan(value))}
    iou = np.array([value for name, value in kept.items() if name.startswith("iou/")])
    if not len(iou):
        return kept
    return {**kept, "mean_iou": float(iou.mean()), "mean_dice": float(np.mean(2 * iou / (1 + iou)))}

"""Intersection over union, summed over batches, against scikit-learn."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from research.core import metrics
from research.data.defaults import VOID
from research.evals import segmentation
from research.util.errors import UserError


def test_sums_over_batches_are_scikit_learns():
    """Two batches of three pictures; void pixels and a row that fills up do not count."""
    rng = np.random.default_rng(0)
    predictions, labels = rng.integers(3, size=(2, 2, 3, 4, 5))
    labels[rng.random(labels.shape) < 0.2] = VOID
    mask = np.array([[1, 1, 1], [1, 1, 0]], np.float32)
    sums = [
        segmentation.by_class(
            segmentation.confusion(*map(jnp.asarray, row[:2]), 3, jnp.asarray(row[2])), ("a", "b", "c d")
        )
        for row in zip(predictions, labels, mask, strict=True)
    ]
    got = segmentation.add_means(metrics.reduce(sums))
    kept = (labels != VOID) & (mask > 0)[..., None, None]
    true, predicted = labels[kept], predictions[kept]
    each = jaccard_score(true, predicted, average=None)
    assert [got[f"iou/{name}"] for name in ("a", "b", "c_d")] == pytest.approx(each)
    assert got["mean_iou"] == pytest.approx(each.mean())
    assert got["mean_dice"] == pytest.approx(f1_score(true, predicted, average="macro"))
    assert got["accuracy"] == pytest.approx((true == predicted).mean())


def test_by_hand():
    """Class 0: 2 right, 1 missed, 1 too many, 2/4; class 1: 3 right, 3/5."""
    sums = segmentation.by_class(jnp.array([[2.0, 1.0], [1.0, 3.0]]), ("a", "b"))
    got = {name: (float(a), float(b)) for name, (a, b) in sums.items()}
    assert got == {"accuracy": (5.0, 7.0), "iou/a": (2.0, 4.0), "iou/b": (3.0, 5.0)}


def test_a_class_that_is_nowhere_is_left_out():
    got = segmentation.add_means({"iou/a": 0.5, "iou/b": math.nan, "loss": 1.0})
    assert got == {"iou/a": 0.5, "loss": 1.0, "mean_iou": 0.5, "mean_dice": pytest.approx(2 / 3)}
    assert segmentation.add_means({"loss": 1.0}) == {"loss": 1.0}


def test_two_classes_of_one_name():
    with pytest.raises(UserError, match="two classes have one name in the log"):
        segmentation.by_class(jnp.zeros((2, 2)), ("a b", "a_b"))

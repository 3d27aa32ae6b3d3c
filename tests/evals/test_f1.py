"""F1 by class, summed over batches, against scikit-learn."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import f1_score

from research.core import metrics
from research.evals import f1
from research.util.errors import UserError


def test_sums_over_batches_are_scikit_learns():
    """Two batches; masked rows do not count."""
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(3, size=(2, 2, 50))
    mask = (np.arange(50) < np.array([[50], [31]])).astype(np.float32)
    rows = zip(predictions, labels, mask, strict=True)
    sums = [f1.by_class(*map(jnp.asarray, row), ("a", "b", "very high")) for row in rows]
    values = f1.add_macro(metrics.reduce(sums))
    kept = mask > 0
    each = f1_score(labels[kept], predictions[kept], average=None)
    want = dict(zip(("f1/a", "f1/b", "f1/very_high"), each, strict=True))
    assert values == pytest.approx({**want, "macro_f1": each.mean()})


def test_a_class_that_is_nowhere_counts_as_zero():
    values = f1.add_macro({"f1/a": 1.0, "f1/b": float("nan"), "loss": 2.0})
    assert values == {"f1/a": 1.0, "f1/b": 0.0, "loss": 2.0, "macro_f1": 0.5}
    assert math.isnan(f1.add_macro({"f1/a": 1.0, "loss": float("nan")})["loss"])


def test_two_classes_of_one_name():
    with pytest.raises(UserError, match="two classes have one name in the log, f1/a_b: rename one of a b, a_b"):
        f1.by_class(jnp.zeros(1, int), jnp.zeros(1, int), jnp.ones(1), ("a b", "a_b"))

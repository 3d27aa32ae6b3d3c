"""Cohen's kappa against scikit-learn's and by hand; its quadratic form from sums over batches."""

import math
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import cohen_kappa_score

from research.core import metrics
from research.evals import kappa
from research.util.errors import UserError

THEIRS = {"none": None, "linear": "linear", "quadratic": "quadratic"}


def test_by_hand():
    """Two graders of 50 yes-no questions: 35 of 50 alike, by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5, so (0.7 - 0.5) / (1 - 0.5)."""
    first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert [kappa.cohen(first, second, weights) for weights in kappa.POWERS] == pytest.approx([0.4] * 3)


@pytest.mark.parametrize("weights", THEIRS)
@pytest.mark.parametrize("shares", [(0.4, 0.3, 0.2, 0.1), (0.0, 0.9, 0.0, 0.1), (0.0, 1.0, 0.0, 0.0)])
def test_as_scikit_learn_has_it(weights, shares):
    """Also where a score never occurs, is never given, or one grader gives one score alone."""
    rng = np.random.default_rng(0)
    first, second = rng.choice(4, 80, p=shares), rng.choice(4, 80)
    want = cohen_kappa_score(first, second, weights=THEIRS[weights], labels=range(4))
    assert kappa.cohen(first, second, weights) == pytest.approx(want)
    assert kappa.cohen(second, second, weights) == 1.0


@pytest.mark.parametrize("weights", THEIRS)
def test_one_score_from_both_is_undefined(weights):
    ones = np.ones(5, int)
    with pytest.warns(UndefinedMetricWarning):
        assert math.isnan(cohen_kappa_score(ones, ones, weights=THEIRS[weights]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(kappa.cohen(ones, ones, weights))


def test_sums_over_batches_are_scikit_learns():
    """Classes in the order of their names, 10 before 2; masked rows do not count."""
    rng = np.random.default_rng(1)
    scores = kappa.scores_of(("0", "10", "2"))
    labels, predictions = rng.integers(3, size=(2, 2, 40))
    mask = (np.arange(40) < np.array([[40], [23]])).astype(np.float32)
    sums = [kappa.sums(*map(jnp.asarray, row), scores) for row in zip(predictions, labels, mask, strict=True)]
    values = kappa.add_quadratic(metrics.reduce(sums) | {"loss": 2.0})
    kept = mask > 0
    a, b = scores[labels[kept]], scores[predictions[kept]]
    want = cohen_kappa_score(a, b, weights="quadratic", labels=range(11))
    assert values == pytest.approx({"loss": 2.0, "absolute_error": np.abs(a - b).mean(), "quadratic_kappa": want})
    assert kappa.cohen(a, b, "quadratic") == pytest.approx(want)


def test_sums_of_one_score_from_both_are_undefined():
    ones = jnp.ones(7, int)
    values = kappa.add_quadratic(metrics.reduce([kappa.sums(ones, ones, jnp.ones(7), np.arange(4))]))
    assert values["absolute_error"] == 0 and math.isnan(values["quadratic_kappa"])


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (("0", "1", "2.5"), "quadratic_kappa = True: the class '2.5' is no whole number; mend that label, or set None"),
        (("1", "good"), "the class 'good' is no whole number"),
        (("1", "01"), "one number is spelt in two ways among the classes 1, 01"),
    ],
)
def test_classes_that_are_no_scores(classes, told):
    with pytest.raises(UserError, match=told):
        kappa.scores_of(classes)


def test_unknown_weights():
    with pytest.raises(UserError, match="weights = 'cubic': one of none, linear, quadratic"):
        kappa.cohen(np.zeros(1, int), np.zeros(1, int), "cubic")

"""Against scikit-learn's classifiers, and by hand."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from research.evals import probe
from research.util.errors import UserError

RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.arange(90) % 3)
CENTRES = RNG.normal(size=(3, 5))
X = (CENTRES[LABELS] + RNG.normal(size=(90, 5))) * [1, 10, 100, 1, 1] + 7
NEW = RNG.normal(size=(200, 5)) * [1, 10, 100, 1, 1] + 7


def test_prototypes_are_means():
    means = probe.prototypes(np.array([[0.0, 0.0], [2.0, 4.0], [5.0, 5.0]]), np.array([1, 1, 0]), 2)
    assert means.tolist() == [[5, 5], [1, 2]]
    with pytest.raises(UserError, match="class 2 of 3 has no example"):
        probe.prototypes(X[:2], np.array([0, 1]), 3)


def test_the_nearest_prototype_is_scikit_learns_nearest_centroid():
    ours = probe.nearest(NEW, probe.prototypes(X, LABELS, 3))
    np.testing.assert_array_equal(ours, NearestCentroid().fit(X, LABELS).predict(NEW))
    assert len(set(ours)) == 3


def test_a_linear_probe_is_scikit_learns_regression_of_standardised_embeddings():
    mean, sd = X.mean(0), X.std(0)
    theirs = LogisticRegression(C=1.0, max_iter=2000).fit((X - mean) / sd, LABELS).predict((NEW - mean) / sd)
    np.testing.assert_array_equal(probe.linear(X, LABELS)(NEW), theirs)


def test_validation_chooses_the_penalty():
    """Labels of noise: the strongest penalty says the commonest class nearly always, which here is right."""
    labels, valid = np.where(np.arange(90) < 50, 0, RNG.integers(0, 2, 90)), (NEW, np.zeros(200, int))

    def share_right(c):
        model = LogisticRegression(C=c, max_iter=2000).fit((X - X.mean(0)) / X.std(0), labels)
        return np.mean(model.predict((NEW - X.mean(0)) / X.std(0)) == 0)

    assert np.mean(probe.linear(X, labels, valid)(NEW) == 0) == share_right(0.001) > share_right(10.0)


def test_a_draw_has_so_many_of_each_class():
    rows = probe.draw(LABELS, 4, seed=1)
    assert sorted(LABELS[rows]) == [0] * 4 + [1] * 4 + [2] * 4 and len(set(rows)) == 12
    assert rows.tolist() == probe.draw(LABELS, 4, seed=1).tolist() != probe.draw(LABELS, 4, seed=2).tolist()
    with pytest.raises(UserError, match="31 examples of each class: class 0 has 30"):
        probe.draw(LABELS, 31, seed=0)

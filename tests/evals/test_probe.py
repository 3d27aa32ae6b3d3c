"""Probes of features whose answers are known, and against scikit-learn's neighbours and centroids."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from research.evals.probe import (
    STRENGTHS,
    Examples,
    draw,
    linear_probe,
    nearest_neighbours,
    nearest_prototype,
    prototypes,
)
from research.util.errors import UserError


def gaussians(n, seed, noise=0):
    """Two classes N(-1, 1) and N(1, 1) in the first dimension, at different scales; `noise` dimensions say nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    x = rng.normal(size=(n, 1 + noise)) + np.eye(1, 1 + noise) * (2 * labels[:, None] - 1)
    return Examples((100 * x + 7).astype(np.float32), labels)


def test_a_probe_of_two_gaussians_is_bayes():
    """The best rule of N(-1, 1) and N(1, 1) is right with probability Phi(1) = 0.841."""
    probe = linear_probe(gaussians(4_000, 0), gaussians(1_000, 1))
    assert probe.converged and probe.accuracy(gaussians(20_000, 2)) == pytest.approx(stats.norm.cdf(1), abs=0.01)


def test_the_penalty_is_chosen_on_validation_and_matters():
    """Forty examples of two hundred dimensions, of which one tells: the weakest penalty overfits."""
    train, valid, test = gaussians(40, 0, 200), gaussians(500, 1, 200), gaussians(4_000, 2, 200)
    probe = linear_probe(train, valid)
    each = {strength: linear_probe(train, valid, (strength,)) for strength in STRENGTHS}
    assert probe.accuracy(valid) == max(one.accuracy(valid) for one in each.values())
    assert probe.strength == min(s for s, one in each.items() if one.accuracy(valid) == probe.accuracy(valid))
    assert probe.accuracy(test) == each[probe.strength].accuracy(test)


def test_a_fit_that_has_not_converged_is_told():
    assert not linear_probe(gaussians(400, 0, 50), gaussians(100, 1, 50), (1.0,), steps=1).converged


@pytest.mark.parametrize("k", [1, 5, 20])
def test_neighbours_equal_scikit_learns(k):
    rng = np.random.default_rng(0)
    train = Examples(rng.normal(size=(300, 6)).astype(np.float32), rng.integers(0, 4, 300))
    asked = rng.normal(size=(1_100, 6)).astype(np.float32)  # more than are scored at once
    theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))
    want = theirs.fit(*train).predict(asked)
    assert np.mean(nearest_neighbours(train, asked, k) == want) > 0.998  # a distance of f32 rounds


def test_what_cannot_be_probed_is_refused():
    one = Examples(np.ones((5, 2), np.float32), np.zeros(5, int))
    with pytest.raises(UserError, match="its 5 training examples have one"):
        linear_probe(one, one)
    with pytest.raises(UserError, match="20 nearest neighbours among 5"):
        nearest_neighbours(one, one.features)


def clouds():
    """90 features of three classes, each dimension at its own scale, and 200 new ones."""
    rng = np.random.default_rng(0)
    labels, scales = rng.permutation(np.arange(90) % 3), [1, 10, 100, 1, 1]
    x = (rng.normal(size=(3, 5))[labels] + rng.normal(size=(90, 5))) * scales + 7
    return Examples(x, labels), rng.normal(size=(200, 5)) * scales + 7


def test_without_validation_a_probe_is_scikit_learns_default():
    train, new = clouds()
    mean, sd = train.features.mean(0), train.features.std(0)
    theirs = LogisticRegression(max_iter=2000).fit((train.features - mean) / sd, train.labels)
    np.testing.assert_array_equal(linear_probe(train, None)(new), theirs.predict((new - mean) / sd))


def test_prototypes_are_means():
    train = Examples(np.array([[0.0, 0.0], [2.0, 4.0], [5.0, 5.0]]), np.array([1, 1, 0]))
    assert prototypes(train, 2).tolist() == [[5, 5], [1, 2]]
    with pytest.raises(UserError, match="class 2 of 3 has no example"):
        prototypes(train, 3)


def test_the_nearest_prototype_is_scikit_learns_nearest_centroid():
    train, new = clouds()
    ours = nearest_prototype(new, prototypes(train, 3))
    np.testing.assert_array_equal(ours, NearestCentroid().fit(*train).predict(new))
    assert len(set(ours)) == 3


def test_a_draw_has_so_many_of_each_class():
    labels = clouds()[0].labels
    rows = draw(labels, 4, seed=1)
    assert sorted(labels[rows]) == [0] * 4 + [1] * 4 + [2] * 4 and len(set(rows)) == 12
    assert rows.tolist() == draw(labels, 4, seed=1).tolist() != draw(labels, 4, seed=2).tolist()
    with pytest.raises(UserError, match="31 examples of each class: class 0 has 30"):
        draw(labels, 31, seed=0)

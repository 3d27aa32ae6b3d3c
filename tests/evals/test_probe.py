"""Probes of features whose answers are known, and against scikit-learn's neighbours."""

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import KNeighborsClassifier

from research.evals.probe import STRENGTHS, Examples, linear_probe, nearest_neighbours
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

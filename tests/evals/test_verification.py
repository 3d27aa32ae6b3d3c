"""Error rates of pairs, by hand and for scores whose rates are known."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import KDTree, distance

from research.evals import verification
from research.util.errors import UserError


def test_gaussian_scores_have_their_equal_error():
    """Same pairs N(2, 1), different N(0, 1): at 1 both errors are Phi(-1) = 0.1587."""
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(2, 1, 100_000), rng.normal(0, 1, 100_000)])
    same = np.repeat([True, False], 100_000)
    error, threshold = verification.equal_error(scores, same)
    assert error == pytest.approx(stats.norm.cdf(-1), abs=0.003) and threshold == pytest.approx(1, abs=0.02)
    accepted, rejected = verification.errors_at(1.0, scores, same)
    assert accepted == pytest.approx(stats.norm.cdf(-1), abs=0.003) and rejected == pytest.approx(accepted, abs=0.005)


@pytest.mark.parametrize(
    "scores, same, want",
    [
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 0.0),
        ([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], 1.0),
        ([0.9, 0.7, 0.5, 0.6, 0.3, 0.1], [1, 1, 1, 0, 0, 0], 1 / 3),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 1, 0], 0.5),  # one score for all
    ],
)
def test_by_hand(scores, same, want):
    assert verification.equal_error(np.array(scores), np.array(same, bool))[0] == pytest.approx(want)


def test_the_threshold_accepts_what_equals_it():
    assert verification.errors_at(0.5, np.array([0.5, 0.4]), np.array([False, True])) == (1.0, 1.0)


def test_modified_hausdorff_by_all_distances():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 2)), rng.normal(size=(50, 2))
    table = distance.cdist(a, b)
    want = max(table.min(1).mean(), table.min(0).mean())
    found = [verification.modified_hausdorff(KDTree(x), KDTree(y)) for x, y in ((a, b), (b, a))]
    np.testing.assert_allclose(found, want)


def test_both_kinds_of_pairs_are_needed():
    with pytest.raises(UserError, match="3 pairs, all different"):
        verification.rates(np.zeros(3), np.zeros(3, bool))

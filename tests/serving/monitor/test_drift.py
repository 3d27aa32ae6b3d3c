"""PSI by hand, KS as scipy computes it, MMD as its definition over all pairs."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from research.serving.monitor import drift


def test_psi_by_hand():
    # (0.3 - 0.5) ln(0.3 / 0.5) + (0.7 - 0.5) ln(0.7 / 0.5) = 0.10217 + 0.06729
    assert drift.psi(np.array([3e5, 7e5]), np.array([5e5, 5e5])) == pytest.approx(0.16946, abs=1e-4)
    assert drift.psi(np.array([5.0, 7.0]), np.array([5.0, 7.0])) == 0


def test_psi_of_an_empty_category_is_finite():
    # shares (0.5 / 11, 10.5 / 11) and (5.5 / 11, 5.5 / 11)
    expected = (1 / 22 - 1 / 2) * np.log(1 / 11) + (21 / 22 - 1 / 2) * np.log(21 / 11)
    assert drift.psi(np.array([0.0, 10.0]), np.array([5.0, 5.0])) == pytest.approx(expected)


@pytest.mark.parametrize("whole", [False, True], ids=["floats", "whole numbers"])
def test_ks_is_scipys(whole):
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 3, 400), rng.normal(1, 2, 90)
    if whole:
        a, b = a.round(), b.round()
    at = np.unique(np.concatenate([a, b]))  # with every value an edge nothing is lost
    found = drift.ks(drift.below(b, at).mean(0), drift.below(a, at).mean(0))
    assert found == pytest.approx(stats.ks_2samp(a, b).statistic, abs=1e-6)


def test_ks_at_quantiles_is_scipys_of_values_between_them():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 500), rng.normal(0.4, 1, 200)
    at = drift.edges(a, 20)
    assert len(at) == 20
    found = drift.ks(drift.below(b, at).mean(0), drift.below(a, at).mean(0))
    binned = stats.ks_2samp(np.searchsorted(at, a), np.searchsorted(at, b)).statistic
    assert found == pytest.approx(binned, abs=1e-6)


def test_a_missing_value_is_above_every_edge():
    assert drift.below(np.array([np.nan, 0.0]), np.array([0.0, 5.0])).tolist() == [[0, 0], [1, 1]]


def test_mmd_approaches_that_of_the_kernel():
    rng = np.random.default_rng(2)
    x, y = rng.normal(0, 1, (300, 3)), rng.normal(0.7, 1, (200, 3))
    width = np.median(cdist(x, x)[np.triu_indices(300, 1)])
    kernel = lambda a, b: np.exp(-cdist(a, b, "sqeuclidean") / (2 * width**2)).mean()  # noqa: E731
    exact = np.sqrt(kernel(x, x) + kernel(y, y) - 2 * kernel(x, y))
    at = drift.frequencies(x, 4_000)
    found = drift.mmd(drift.fourier(y, at).mean(0), drift.fourier(x, at).mean(0))
    assert found == pytest.approx(exact, rel=0.05)

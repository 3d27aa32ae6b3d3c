"""Paired differences against published numbers, and a likelihood that is maximised numerically."""

import numpy as np
import pytest
from scipy import optimize, stats

from research.evals import paired


@pytest.mark.parametrize(
    "wins, losses, n, level, bounds, decimals",
    [
        (0, 1, 44, 0.05, (-0.096, None), 3),  # Tango 1998, section 6.1: soft contact lenses
        (1, 7, 21, 0.025, (-0.517, -0.026), 3),  # Fagerland et al. 2014, Stat Med 33:2850, Bentur's airways
        (48, 41, 549, 0.05, (-0.0157, 0.0414), 4),  # R's PropCIs::scoreci.mp
    ],
)
def test_published_intervals(wins, losses, n, level, bounds, decimals):
    found = paired.score_interval(wins, losses, n, level)
    for ours, theirs in zip(found, bounds, strict=True):
        assert theirs is None or round(ours, decimals) == theirs


def test_the_published_statistic():
    """Tango 1998, section 6.1: Z = 1.709, one-sided p = 0.044, for a margin of 0.1."""
    z = paired.score(0, 1, 44, -0.1)
    assert round(z, 3) == 1.709 and round(stats.norm.sf(z), 3) == 0.044


@pytest.mark.parametrize("wins, losses, n, difference", [(3, 9, 60, -0.05), (12, 2, 80, 0.03), (0, 4, 50, -0.2)])
def test_the_variance_is_of_the_likeliest_probabilities(wins, losses, n, difference):
    """The multinomial likelihood under the hypothesis, maximised over P(loss) by search, gives the same statistic."""

    def minus_log_likelihood(loss):
        win = loss + difference
        return -stats.multinomial.logpmf([wins, losses, n - wins - losses], n, [win, loss, 1 - win - loss])

    low, high = max(0, -difference), (1 - difference) / 2
    loss = optimize.minimize_scalar(
        minus_log_likelihood, bounds=(low + 1e-12, high), method="bounded", options={"xatol": 1e-12}
    ).x
    variance = (2 * loss + difference - difference**2) / n
    expected = ((wins - losses) / n - difference) / np.sqrt(variance)
    assert paired.score(wins, losses, n, difference) == pytest.approx(expected, abs=1e-4)


def test_the_interval_is_that_of_the_test_and_its_mirror():
    low, high = paired.score_interval(5, 8, 200, 0.05)
    assert paired.score(5, 8, 200, low) == pytest.approx(stats.norm.isf(0.05))
    assert paired.score_interval(8, 5, 200, 0.05) == pytest.approx((-high, -low))
    z2 = stats.norm.isf(0.05) ** 2  # by hand: without disagreements z = sqrt(n d / (1 - d))
    assert paired.score_interval(0, 0, 180, 0.05)[1] == pytest.approx(z2 / (180 + z2))
    assert paired.score_interval(0, 9, 9, 0.05)[0] == -1


@pytest.mark.parametrize("counts", [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(ValueError, match="wins = "):
        paired.score_interval(*counts, level=0.05)


def test_mcnemar_by_hand():
    assert paired.mcnemar(8, 2) == pytest.approx((45 + 10 + 1) / 1024)  # P(X >= 8) of 10 fair coins
    assert paired.mcnemar(2, 8) == pytest.approx(1 - (10 + 1) / 1024)
    assert paired.mcnemar(0, 0) == 1

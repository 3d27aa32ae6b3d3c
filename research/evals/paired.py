"""Two classifiers on the same rows: the difference of their accuracies, and whether it is one.

Of n rows, `wins` are those that only the candidate has right, and `losses` those that only the other has right.
"""

import math

from scipy.optimize import brentq
from scipy.stats import binomtest, norm


def score_interval(wins: int, losses: int, n: int, level: float) -> tuple[float, float]:
    """Tango's score interval of the difference (wins - losses) / n, each bound one-sided at `level`: 1 - 2 level of coverage.

    From Tango 1998, Statistics in Medicine 17:891-908, equations 24 to 26. The lower bound is at least -margin if and only if his
    test of non-inferiority by that margin rejects at `level`. Unlike Wald's interval it has a width without disagreements.

    >>> low, high = score_interval(wins=1, losses=7, n=21, level=0.025)
    >>> round(low, 3), round(high, 3)
    (-0.517, -0.026)
    """
    if not (wins >= 0 and losses >= 0 and 0 < n and wins + losses <= n and 0 < level < 0.5):
        raise ValueError(f"wins = {wins}, losses = {losses}, n = {n}, level = {level}")
    return _lower(wins, losses, n, level), -_lower(losses, wins, n, level)


def _lower(wins: int, losses: int, n: int, level: float) -> float:
    observed, z = (wins - losses) / n, norm.isf(level)
    if observed == -1:
        return -1.0
    # The statistic falls from infinity at -1 to 0 at the observed difference.
    return brentq(lambda difference: score(wins, losses, n, difference) - z, -1 + 1e-12, observed, xtol=1e-12)


def score(wins: int, losses: int, n: int, difference: float) -> float:
    """Tango's statistic for the hypothesis that the accuracies differ by `difference`: standard normal under it."""
    b = (2 * n - wins + losses) * difference - wins - losses
    c = -losses * difference * (1 - difference)
    q = (math.sqrt(b * b - 8 * n * c) - b) / (4 * n)  # the likeliest probability of a loss under the hypothesis
    variance = n * (2 * q + difference * (1 - difference))
    return (wins - losses - n * difference) / math.sqrt(variance) if variance > 0 else 0.0


def mcnemar(wins: int, losses: int) -> float:
    """P of at least so many wins among the disagreements if either is as probable: McNemar's exact test, one-sided.

    >>> mcnemar(wins=5, losses=0), mcnemar(wins=0, losses=0)
    (0.03125, 1.0)
    """
    return float(binomtest(wins, wins + losses, alternative="greater").pvalue) if wins + losses else 1.0

"""Whether two things are the same, by a score: error rates over all thresholds. Scores are higher for what is more alike."""

import numpy as np
from jaxtyping import Bool, Float, Float64
from scipy.spatial import KDTree
from sklearn.metrics import roc_curve

from research.util.errors import UserError


def rates(
    scores: Float[np.ndarray, " n"], same: Bool[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, " m"], Float64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
    """False acceptance and true acceptance rates, and their thresholds, from the highest down.

    Raises UserError unless there are both same and different pairs.
    """
    if same.all() or not same.any():
        raise UserError(f"{len(same):,} pairs, all {'the same' if same.all() else 'different'}: rates need both kinds")
    false, true, thresholds = roc_curve(same, scores, drop_intermediate=False)
    return false, true, thresholds


def equal_error(scores: Float[np.ndarray, " n"], same: Bool[np.ndarray, " n"]) -> tuple[float, float]:
    """The rate at which false acceptances are as frequent as false rejections, and a threshold next to it.

    Between two thresholds the rates are interpolated linearly.

    >>> equal_error(np.array([0.9, 0.4, 0.6, 0.1]), np.array([True, True, False, False]))
    (0.5, 0.6)
    """
    false, true, thresholds = rates(scores, same)
    gap = false - (1 - true)  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = after - 1
    part = -gap[before] / (gap[after] - gap[before])
    return float(false[before] + part * (false[after] - false[before])), float(thresholds[after])


def errors_at(threshold: float, scores: Float[np.ndarray, " n"], same: Bool[np.ndarray, " n"]) -> tuple[float, float]:
    """(share of different pairs that are accepted, of same pairs that are rejected), where scores from `threshold` on accept."""
    accepted = scores >= threshold
    return float(accepted[~same].mean()), float((~accepted[same]).mean())


def modified_hausdorff(a: KDTree, b: KDTree) -> float:
    """The mean distance of one set's points to the nearest of the other's, the larger of both ways (Dubuisson and Jain 1994).

    >>> modified_hausdorff(KDTree([[0.0, 0.0]]), KDTree([[0.0, 0.0], [3.0, 4.0]]))
    2.5
    """
    return float(max(a.query(b.data)[0].mean(), b.query(a.data)[0].mean()))

"""Objects of a picture against the true ones. A map of objects is i[Y, X]: 1, 2, ... an object's number, 0 for the ground."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

IOUS = (0.5, 0.6, 0.7, 0.8, 0.9)


class Matches(NamedTuple):
    """Of one picture: the pairs' IoUs, best assigned, and how many objects each side has."""

    ious: Float[np.ndarray, " k"]
    predicted: int
    true: int


def overlaps(predicted: Int[np.ndarray, "Y X"], true: Int[np.ndarray, "Y X"]) -> Int[np.ndarray, "p t"]:
    """The pixels that a predicted and a true object share, [i, j]; row and column 0 are the ground."""
    columns = int(true.max()) + 1
    pairs = predicted.astype(np.int64) * columns + true
    return np.bincount(pairs.ravel(), minlength=(int(predicted.max()) + 1) * columns).reshape(-1, columns)


def match(shared: Int[np.ndarray, "p t"], least: float) -> Matches:
    """Pairs of an IoU above `least`, or equal where that is below 1/2: as many as can be, and of those the best overlap.

    Above 1/2 an object has one partner at most (Kirillov et al. 2019, 1801.00868, theorem 1).
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    union = shared.sum(1)[1:, None] + shared.sum(0)[None, 1:] - shared[1:, 1:]
    iou = shared[1:, 1:] / np.maximum(union, 1)
    fits = iou > least if least >= 0.5 else (iou >= least) & (iou > 0)
    count = min(iou.shape) + 1
    rows, columns = linear_sum_assignment(fits * (1 + iou / count), maximize=True)
    kept = fits[rows, columns]
    return Matches(iou[rows, columns][kept], *(int((n > 0).sum()) for n in (shared.sum(1)[1:], shared.sum(0)[1:])))


def average_precision(matches: Sequence[Matches]) -> float:
    """TP / (TP + FP + FN) over all pictures (Schmidt et al. 2018, 1806.03535); nan if there is no object at all.

    >>> average_precision([Matches(np.array([0.8]), predicted=1, true=2)])
    0.5
    """
    found = sum(len(m.ious) for m in matches)
    objects = sum(m.predicted + m.true for m in matches) - found
    return found / objects if objects else float("nan")


def panoptic_quality(matches: Sequence[Matches]) -> dict[str, float]:
    """{"pq", "sq", "rq"} of matches above 1/2, over all pictures (Kirillov et al. 2019, 1801.00868, equations 1 and 2).

    Without objects all are nan; with objects and no match sq is 0.
    """
    found = sum(len(m.ious) for m in matches)
    objects = sum(m.predicted + m.true for m in matches)
    if not objects:
        return dict.fromkeys(("pq", "sq", "rq"), float("nan"))
    sq = sum(float(m.ious.sum()) for m in matches) / found if found else 0.0
    rq = 2 * found / objects
    return {"pq": sq * rq, "sq": sq, "rq": rq}


def adapted_rand_error(shared: Int[np.ndarray, "p t"]) -> float:
    """1 - F of "these two pixels are of one object", over pairs of pixels that are an object's in the truth.

    A pixel predicted as ground is an object of its own. Pairs of a pixel with itself count. nan without a true object.
    """
    inside = shared[:, 1:].astype(np.float64)
    alone = inside[0].sum()
    both = np.square(inside[1:]).sum() + alone
    predicted = np.square(inside[1:].sum(1)).sum() + alone
    true = np.square(inside.sum(0)).sum()
    return float(1 - 2 * both / (predicted + true)) if true else float("nan")

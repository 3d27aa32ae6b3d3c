"""Cohen's kappa, agreement beyond chance, of two gradings of the same texts (Cohen 1960; weighted, 1968).

`cohen` takes whole arrays on the host. `sums` and `add_quadratic` give the quadratic one from sums over batches, for
`batch_metrics` and `split_metrics`: with weights (i - j)^2 it follows from five moments.
"""

import re
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from research.core.arrays import Array
from research.core.metrics import MetricSums
from research.evals.classification import confusion_matrix
from research.util.errors import UserError

POWERS = {"none": 0, "linear": 1, "quadratic": 2}  # of the distance of two scores
_MOMENTS = ("square", "label", "label_square", "prediction", "prediction_square")
_PREFIX = "kappa/"  # of sums that `add_quadratic` replaces


def cohen(first: Int[np.ndarray, " n"], second: Int[np.ndarray, " n"], weights: str = "none") -> float:
    """1 - (observed disagreement) / (disagreement by chance); the disagreement of scores i, j is |i - j| ** POWERS[weights].

    "none": any two different scores disagree by 1. By chance is what the two gradings' own frequencies give when they
    are independent. NaN if that is 0: both give one and the same score throughout.

    >>> round(cohen(np.array([0, 1, 2, 2]), np.array([0, 2, 2, 2]), "quadratic"), 4)  # 1 - 0.25 / 1.5
    0.8333
    """
    if weights not in POWERS:
        raise UserError(f"weights = {weights!r}: one of {', '.join(POWERS)}")
    scores, rows = np.unique(np.concatenate([first, second]), return_inverse=True)
    observed = confusion_matrix(rows[: len(first)], rows[len(first) :], len(scores)) / len(first)
    distance = np.abs(scores[:, None] - scores).astype(np.float64)
    disagreement = np.where(distance > 0, distance ** POWERS[weights], 0)
    chance = np.sum(disagreement * np.outer(observed.sum(1), observed.sum(0)))
    return float(1 - np.sum(disagreement * observed) / chance) if chance else float("nan")


def scores_of(classes: Sequence[str]) -> Int[np.ndarray, " N"]:
    """Classes that are whole numbers -> those numbers, i64[N]. Raises UserError for one that is none, or that stands twice.

    >>> scores_of(("0", "10", "2")).tolist()
    [0, 10, 2]
    """
    if wrong := [name for name in classes if not re.fullmatch(r"[+-]?[0-9]{1,9}", name)]:
        raise UserError(
            f"quadratic_kappa = True: the class {wrong[0]!r} is no whole number; mend that label, or set None"
        )
    scores = np.array([int(name) for name in classes])
    if len(set(scores)) < len(scores):
        raise UserError(
            f"quadratic_kappa = True: one number is spelt in two ways among the classes {', '.join(classes)}"
        )
    return scores


def sums(
    predictions: Int[Array, "*batch"],
    labels: Int[Array, "*batch"],
    mask: Float[Array, "*batch"],
    scores: Int[np.ndarray, " N"],
) -> MetricSums:
    """Predicted and true classes 0..N-1 that stand for `scores` -> "absolute_error", in scores, and sums for `add_quadratic`."""
    values = jnp.asarray(scores - scores.min(), jnp.float32)
    a, b = values[labels], values[predictions]
    means = dict(zip(_MOMENTS, ((a - b) ** 2, a, a**2, b, b**2), strict=True))
    weight = jnp.sum(mask)
    moments = {f"{_PREFIX}{name}": (jnp.sum(value * mask), weight) for name, value in means.items()}
    return {"absolute_error": (jnp.sum(jnp.abs(a - b) * mask), weight), **moments}


def add_quadratic(means: dict[str, float]) -> dict[str, float]:
    """Puts "quadratic_kappa" in the place of the sums; NaN where `cohen` has it.

    By chance E (i - j)^2 = E i^2 + E j^2 - 2 E i E j.
    """
    square, label, label_square, prediction, prediction_square = (means[f"{_PREFIX}{name}"] for name in _MOMENTS)
    chance = label_square + prediction_square - 2 * label * prediction
    others = {name: value for name, value in means.items() if not name.startswith(_PREFIX)}
    return {**others, "quadratic_kappa": 1 - square / chance if chance > 1e-9 else float("nan")}

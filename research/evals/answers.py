"""Selective question answering: the confidence of answers, its temperature, and the threshold below which none is given.

The scores of a question's candidates are log-odds against "the passage has no answer" if `null`, else log-probabilities up
to a common constant. All functions are pure, on host arrays.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

TEMPERATURES = (0.05, 20.0)  # bounds of the search


class Curve(NamedTuple):
    """Accuracy and coverage if only answers of at least `threshold` confidence are given: f64[n] each, thresholds falling."""

    threshold: np.ndarray
    coverage: np.ndarray  # share of the questions that are answered
    accuracy: np.ndarray  # share of the answers given that are right


def confidence(
    scores: Float[np.ndarray, "*questions n"], temperature: float, null: bool
) -> Float64[np.ndarray, "*questions n"]:
    """Softmax of scores / temperature over a question's candidates, and with `null` over no answer too.

    Candidates come from all passages of the question; a score of -inf marks a missing one.

    >>> confidence(np.log([3.0, 1.0]), temperature=1.0, null=False).round(3).tolist()
    [0.75, 0.25]
    """
    scores = np.asarray(scores, np.float64) / temperature
    none = np.full((*scores.shape[:-1], int(null)), 0.0)
    return np.exp(scores - logsumexp(np.concatenate([scores, none], -1), -1, keepdims=True))


def fit_temperature(
    scores: Sequence[Float[np.ndarray, " _"]], right: Bool[np.ndarray, " questions"], null: bool
) -> float:
    """The temperature at which the first candidates' confidences best predict whether they are right.

    `scores` are each question's candidates'. Minimises the log loss (Guo et al. 2017, 1706.04599, section 4.2, for classes)
    on a logarithmic scale within `TEMPERATURES`.
    """
    right, padded = np.asarray(right, bool), np.full((len(scores), max(map(len, scores))), -np.inf)
    for row, values in zip(padded, scores, strict=True):
        row[: len(values)] = values

    def loss(log_temperature: float) -> float:
        p = confidence(padded, np.exp(log_temperature), null)[:, 0]
        return -np.log(np.clip(np.where(right, p, 1 - p), 1e-12, None)).mean()

    minimum = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(minimum.x))


def curve(confidences: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]) -> Curve:
    """Confidences of the answers, and whether each is right -> their `Curve`; equal confidences are one point.

    >>> curve(np.array([0.9, 0.5, 0.7]), np.array([True, False, True])).accuracy.round(2).tolist()
    [1.0, 1.0, 0.67]
    """
    order = np.argsort(-np.asarray(confidences), kind="stable")
    thresholds, hits = np.asarray(confidences, np.float64)[order], np.cumsum(np.asarray(right, bool)[order])
    last = np.append(thresholds[1:] != thresholds[:-1], True)
    counts = np.arange(1, len(order) + 1)
    return Curve(thresholds[last], (counts / len(order))[last], (hits / counts)[last])


def choose_threshold(curve: Curve, accuracy: float) -> float:
    """The lowest threshold at which the answers given have at least this accuracy, so that the most are given.

    If there is none, the threshold of the highest accuracy, and among equals the lowest.
    """
    points = np.flatnonzero(curve.accuracy >= accuracy)
    if not len(points):
        points = np.flatnonzero(curve.accuracy == curve.accuracy.max())
    return float(curve.threshold[points[-1]])

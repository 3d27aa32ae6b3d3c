"""How far an answer can be trusted: confidence, its temperature, and the threshold below which none is given.

A question's candidates have scores, log-odds against "no answer here" where `null`, else log-probabilities up to a constant
that they share. All functions are pure, on host arrays.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

TEMPERATURES = (0.05, 20.0)  # searched between


class Curve(NamedTuple):
    """Answering only what is at least so confident: f64[n] each, the threshold falling."""

    threshold: np.ndarray
    coverage: np.ndarray  # the share of questions that are answered
    accuracy: np.ndarray  # the share of those answered right


def confidence(scores: np.ndarray, temperature: float, null: bool) -> np.ndarray:
    """Softmax of scores f[..., n] over a question's candidates, all its passages', and with `null` over no answer too.

    f64[..., n]; a score of -inf is of no candidate.
    """
    scores = np.asarray(scores, np.float64) / temperature
    none = np.full((*scores.shape[:-1], int(null)), 0.0)
    return np.exp(scores - logsumexp(np.concatenate([scores, none], -1), -1, keepdims=True))


def fit_temperature(scores: Sequence[np.ndarray], right: np.ndarray, null: bool) -> float:
    """The temperature under which the first candidates' confidences best predict whether they are right, bool[questions].

    It minimises the log loss (as Guo et al. 2017, 1706.04599, section 4.2, do for classes), searched on a logarithmic
    scale within `TEMPERATURES`.
    """
    right, whole = np.asarray(right, bool), np.full((len(scores), max(map(len, scores))), -np.inf)
    for row, found in zip(whole, scores, strict=True):
        row[: len(found)] = found

    def loss(log_temperature: float) -> float:
        p = confidence(whole, np.exp(log_temperature), null)[:, 0]
        return -np.log(np.clip(np.where(right, p, 1 - p), 1e-12, None)).mean()

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def curve(confidences: np.ndarray, right: np.ndarray) -> Curve:
    """Confidences f[n] of the answers given, and whether each is right, bool[n]; equal confidences are one point."""
    order = np.argsort(-np.asarray(confidences), kind="stable")
    thresholds, hits = np.asarray(confidences, np.float64)[order], np.cumsum(np.asarray(right, bool)[order])
    last = np.append(thresholds[1:] != thresholds[:-1], True)
    counts = np.arange(1, len(order) + 1)
    return Curve(thresholds[last], (counts / len(order))[last], (hits / counts)[last])


def choose_threshold(found: Curve, accuracy: float) -> float:
    """The lowest threshold at which the answers given are right with at least this accuracy: it answers the most.

    Where none is, the threshold of the greatest accuracy, and of equal ones the lowest.
    """
    enough = np.flatnonzero(found.accuracy >= accuracy)
    if not len(enough):
        enough = np.flatnonzero(found.accuracy == found.accuracy.max())
    return float(found.threshold[enough[-1]])

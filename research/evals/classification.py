"""Metrics of a classifier, as pure functions of host arrays: labels i[n], predictions i[n] of
classes 0..N-1, scores or probabilities f[n, N]. A ratio of 0/0 counts as 0."""

from typing import Any

import numpy as np


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """i64[N, N]: the number of examples of class `row` that were predicted as class `column`.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), num_classes=2).tolist()
    [[1, 1], [0, 1]]
    """
    pairs = np.asarray(labels) * num_classes + np.asarray(predictions)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def report(confusion: np.ndarray) -> dict[str, Any]:
    """Confusion i[N, N] -> "accuracy"; "precision", "recall" and "f1" f64[N] of each class; and their "macro_" means
    over all N classes. With one label per example, the micro average of all three is the accuracy."""
    hits = np.diag(confusion)
    precision = _ratio(hits, confusion.sum(0))
    recall = _ratio(hits, confusion.sum(1))
    f1 = _ratio(2 * hits, confusion.sum(0) + confusion.sum(1))
    classes = {"precision": precision, "recall": recall, "f1": f1}
    macro = {f"macro_{name}": float(value.mean()) for name, value in classes.items()}
    return {"accuracy": float(_ratio(hits.sum(), confusion.sum())), **classes, **macro}


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of examples whose label is among the `k` highest scores; a tie counts against the label."""
    labels = np.asarray(labels)[:, None]
    others = np.arange(scores.shape[1]) != labels
    ahead = (scores >= np.take_along_axis(scores, labels, 1)) & others
    return float(np.mean(ahead.sum(1) < k))


def reliability(probabilities: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> dict[str, np.ndarray]:
    """Examples in bins of equal width (a, b] of the top-1 probability: their "count" i64[bins], and their mean
    "confidence" and "accuracy", f64[bins], 0 in empty bins."""
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    bins = np.searchsorted(np.linspace(0, 1, num_bins + 1)[1:-1], confidence)
    count = np.bincount(bins, minlength=num_bins)
    sums = {"confidence": confidence, "accuracy": correct}
    return {"count": count} | {k: _ratio(np.bincount(bins, v, num_bins), count) for k, v in sums.items()}


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017, 1706.04599, equation 3), in 0..1: the mean over
    examples of |accuracy - confidence| of their bin, as `reliability` has it."""
    bins = reliability(probabilities, labels, num_bins)
    gaps = bins["count"] * np.abs(bins["accuracy"] - bins["confidence"])
    return float(gaps.sum() / bins["count"].sum())


def roc_curve(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """positive bool[n], scores f[n] -> false and true positive rates f64[k], and their thresholds f64[k], falling.

    An example is predicted positive if its score reaches the threshold. The first point, (0, 0), has the threshold
    infinity; a rate over no examples is NaN.
    """
    positive, scores = np.asarray(positive, bool), np.asarray(scores, np.float64)
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of each run of equal scores
    hits = np.cumsum(positive[order])[last]
    with np.errstate(invalid="ignore"):
        rates = [np.append(0, n) / total for n, total in ((1 + last - hits, (~positive).sum()), (hits, positive.sum()))]
    return rates[0], rates[1], np.append(np.inf, scores[order][last])


def roc_auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: how often a positive outranks a negative, a tie counting half. NaN unless both occur.

    >>> roc_auc(np.array([True, False, True]), np.array([0.9, 0.5, 0.5]))
    0.75
    """
    false, true, _ = roc_curve(positive, scores)
    return float(np.trapezoid(true, false))


def one_vs_rest_auc(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """f64[N]: the ROC area of each class against all others. NaN for a class with no examples, or with all."""
    return np.array([roc_auc(labels == k, probabilities[:, k]) for k in range(probabilities.shape[1])])


def at_threshold(positive: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float]:
    """Accuracy, precision, recall and F1 of predicting positive bool[n] where scores f[n] reach the threshold."""
    positive = np.asarray(positive, bool)
    metrics = report(confusion_matrix(positive.astype(int), (scores >= threshold).astype(int), 2))
    return {"accuracy": metrics["accuracy"]} | {k: float(metrics[k][1]) for k in ("precision", "recall", "f1")}


def best_threshold(positive: np.ndarray, scores: np.ndarray, metric: str = "f1") -> float:
    """The threshold with the highest "f1" (of the positive class) or "accuracy" on these examples, among equals the one
    nearest to 0.5; half-way between two scores, which are in 0..1. Above 1 none is positive. Choose on validation data.

    The threshold is a number of the scores' own dtype, in which it is compared: half-way between two neighbours of f32 would
    else be rounded to the lower one, which then counted as positive. Where nothing lies between, it is the upper score.
    """
    scores = np.asarray(scores)
    false, true, thresholds = roc_curve(positive, scores)
    P, N = np.sum(positive), len(scores) - np.sum(positive)
    tp, fp = np.nan_to_num(true * P), np.nan_to_num(false * N)
    values = _ratio(2 * tp, P + tp + fp) if metric == "f1" else (tp + N - fp) / (P + N)
    lower, upper = np.append(thresholds[1:], -np.inf), np.minimum(thresholds, 2.0)
    middles = (np.maximum(lower, 0.0) + upper) / 2
    if np.issubdtype(scores.dtype, np.floating):
        middles = middles.astype(scores.dtype).astype(np.float64)
    middles = np.where(middles > lower, middles, upper)
    best = np.flatnonzero(values >= values.max() - 1e-12)
    return float(middles[best[np.argmin(np.abs(middles[best] - 0.5))]])


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros(np.shape(a)), where=np.asarray(b) > 0)

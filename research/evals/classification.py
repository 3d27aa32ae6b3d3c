"""Scores of a classifier, as pure functions of host arrays: labels i[n], predictions i[n] of
classes 0..N-1, scores or probabilities f[n, N]. Where a ratio is 0/0 it counts as 0."""

from typing import Any

import numpy as np


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """i64[N, N]: how often class `row` was called class `column`."""
    pairs = np.asarray(labels) * num_classes + np.asarray(predictions)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def report(confusion: np.ndarray) -> dict[str, Any]:
    """Accuracy; precision, recall and F1 f64[N] of each class; and their "macro_" means over all N
    classes. With one label an example, the micro average of all three is the accuracy."""
    hits = np.diag(confusion)
    precision = _ratio(hits, confusion.sum(0))
    recall = _ratio(hits, confusion.sum(1))
    f1 = _ratio(2 * hits, confusion.sum(0) + confusion.sum(1))
    classes = {"precision": precision, "recall": recall, "f1": f1}
    macro = {f"macro_{name}": float(value.mean()) for name, value in classes.items()}
    return {"accuracy": float(_ratio(hits.sum(), confusion.sum())), **classes, **macro}


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of examples whose label is among the `k` highest scores; a tie counts against it."""
    labels = np.asarray(labels)[:, None]
    others = np.arange(scores.shape[1]) != labels
    ahead = (scores >= np.take_along_axis(scores, labels, 1)) & others
    return float(np.mean(ahead.sum(1) < k))


def reliability(probabilities: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> dict[str, np.ndarray]:
    """Of the likeliest class, by bins of equal width (a, b] of its probability: how many examples fall there ("count",
    i64[bins]), their mean "confidence" and "accuracy", f64[bins], 0 where there are none."""
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    bins = np.searchsorted(np.linspace(0, 1, num_bins + 1)[1:-1], confidence)
    count = np.bincount(bins, minlength=num_bins)
    sums = {"confidence": confidence, "accuracy": correct}
    return {"count": count} | {k: _ratio(np.bincount(bins, v, num_bins), count) for k, v in sums.items()}


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017, 1706.04599, equation 3), in 0..1: the mean over
    examples of |accuracy - confidence| in their bin of equal width, (a, b]."""
    bins = reliability(probabilities, labels, num_bins)
    gaps = bins["count"] * np.abs(bins["accuracy"] - bins["confidence"])
    return float(gaps.sum() / bins["count"].sum())


def roc_curve(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """positive bool[n], scores f[n] -> false and true positive rates f64[k], and the thresholds they belong to, falling.

    An example counts as positive where its score reaches the threshold. The first point, (0, 0), has the threshold
    infinity; a rate of none is NaN.
    """
    positive, scores = np.asarray(positive, bool), np.asarray(scores, np.float64)
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of each run of equal scores
    hits = np.cumsum(positive[order])[last]
    with np.errstate(invalid="ignore"):
        rates = [np.append(0, n) / total for n, total in ((1 + last - hits, (~positive).sum()), (hits, positive.sum()))]
    return rates[0], rates[1], np.append(np.inf, scores[order][last])


def roc_auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """The area under the ROC curve: how often a positive outranks a negative, a tie being half. NaN without both."""
    false, true, _ = roc_curve(positive, scores)
    return float(np.trapezoid(true, false))


def one_vs_rest_auc(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """f64[N]: the area for each class against all others. NaN for a class with no example, or with all."""
    return np.array([roc_auc(labels == k, probabilities[:, k]) for k in range(probabilities.shape[1])])


def at_threshold(positive: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float]:
    """Two classes, the positive one called where its score reaches the threshold: accuracy, precision, recall, F1."""
    positive = np.asarray(positive, bool)
    found = report(confusion_matrix(positive.astype(int), (scores >= threshold).astype(int), 2))
    return {"accuracy": found["accuracy"]} | {k: float(found[k][1]) for k in ("precision", "recall", "f1")}


def best_threshold(positive: np.ndarray, scores: np.ndarray, metric: str = "f1") -> float:
    """The threshold of greatest "f1" (of the positive class) or "accuracy" on these examples, of equals the one nearest
    to 0.5: half-way between the scores, in 0..1, that it parts; above 1 it calls none. To be chosen on validation."""
    false, true, thresholds = roc_curve(positive, scores)
    P, N = np.sum(positive), len(scores) - np.sum(positive)
    tp, fp = np.nan_to_num(true * P), np.nan_to_num(false * N)
    values = _ratio(2 * tp, P + tp + fp) if metric == "f1" else (tp + N - fp) / (P + N)
    middles = (np.append(thresholds[1:], 0.0) + np.minimum(thresholds, 2.0)) / 2
    best = np.flatnonzero(values >= values.max() - 1e-12)
    return float(middles[best[np.argmin(np.abs(middles[best] - 0.5))]])


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros(np.shape(a)), where=np.asarray(b) > 0)

"""Metrics of a classifier of classes 0..N-1, as pure functions of host arrays. A ratio of 0/0 counts as 0."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Integer, Real


def confusion_matrix(
    labels: Integer[np.ndarray, " n"], predictions: Integer[np.ndarray, " n"], num_classes: int
) -> Int[np.ndarray, "N N"]:
    """The number of examples of class `row` that were predicted as class `column`.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), num_classes=2).tolist()
    [[1, 1], [0, 1]]
    """
    pairs = np.asarray(labels, np.int64) * num_classes + predictions  # 19 * 20 would not fit into the labels' own u8
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def report(confusion: Int[np.ndarray, "N N"]) -> dict[str, Any]:
    """Confusion matrix -> "accuracy"; "precision", "recall" and "f1" f64[N] of each class; and their "macro_" means
    over all N classes. With one label per example, the micro average of all three is the accuracy."""
    hits = np.diag(confusion)
    precision = _ratio(hits, confusion.sum(0))
    recall = _ratio(hits, confusion.sum(1))
    f1 = _ratio(2 * hits, confusion.sum(0) + confusion.sum(1))
    classes = {"precision": precision, "recall": recall, "f1": f1}
    macro = {f"macro_{name}": float(value.mean()) for name, value in classes.items()}
    return {"accuracy": float(_ratio(hits.sum(), confusion.sum())), **classes, **macro}


def top_k_accuracy(scores: Float[np.ndarray, "n N"], labels: Int[np.ndarray, " n"], k: int) -> float:
    """Share of examples whose label is among the `k` highest scores; a tie counts against the label."""
    labels = np.asarray(labels)[:, None]
    others = np.arange(scores.shape[1]) != labels
    ahead = (scores >= np.take_along_axis(scores, labels, 1)) & others
    return float(np.mean(ahead.sum(1) < k))


def reliability(
    probabilities: Float[np.ndarray, "n N"], labels: Int[np.ndarray, " n"], num_bins: int = 15
) -> dict[str, Real[np.ndarray, " bins"]]:
    """Examples in bins of equal width (a, b] of the top-1 probability: their "count", i64, and their mean "confidence" and
    "accuracy", f64, 0 in empty bins."""
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    bins = np.searchsorted(np.linspace(0, 1, num_bins + 1)[1:-1], confidence)
    count = np.bincount(bins, minlength=num_bins)
    sums = {"confidence": confidence, "accuracy": correct}
    return {"count": count} | {k: _ratio(np.bincount(bins, v, num_bins), count) for k, v in sums.items()}


def calibration_error(
    probabilities: Float[np.ndarray, "n N"], labels: Int[np.ndarray, " n"], num_bins: int = 15
) -> float:
    """Expected calibration error (Guo et al. 2017, 1706.04599, equation 3), in 0..1: the mean over
    examples of |accuracy - confidence| of their bin, as `reliability` has it."""
    bins = reliability(probabilities, labels, num_bins)
    gaps = bins["count"] * np.abs(bins["accuracy"] - bins["confidence"])
    return float(gaps.sum() / bins["count"].sum())


def roc_curve(
    positive: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """False and true positive rates, and their thresholds, falling.

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


def roc_auc(positive: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float:
    """Area under the ROC curve: how often a positive outranks a negative, a tie counting half. NaN unless both occur.

    >>> roc_auc(np.array([True, False, True]), np.array([0.9, 0.5, 0.5]))
    0.75
    """
    false, true, _ = roc_curve(positive, scores)
    return float(np.trapezoid(true, false))


def one_vs_rest_auc(
    probabilities: Float[np.ndarray, "n N"], labels: Int[np.ndarray, " n"]
) -> Float64[np.ndarray, " N"]:
    """The ROC area of each class against all others. NaN for a class with no examples, or with all."""
    return np.array([roc_auc(labels == k, probabilities[:, k]) for k in range(probabilities.shape[1])])


def at_threshold(
    positive: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"], threshold: float
) -> dict[str, float]:
    """Accuracy, precision, recall and F1 of predicting positive where the scores reach the threshold."""
    positive = np.asarray(positive, bool)
    metrics = report(confusion_matrix(positive.astype(int), (scores >= threshold).astype(int), 2))
    return {"accuracy": metrics["accuracy"]} | {k: float(metrics[k][1]) for k in ("precision", "recall", "f1")}


def best_threshold(positive: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"], metric: str = "f1") -> float:
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


def threshold_at_false_alarms(positive: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"], rate: float) -> float:
    """The lowest of the scores from which on at most this share of the negatives is predicted positive, so that the fewest
    positives are missed; 2 if even the highest is reached by more. Choose on validation data.

    >>> threshold_at_false_alarms(np.array([True, False, True, False]), np.array([0.9, 0.7, 0.6, 0.2]), rate=0.5)
    0.6
    """
    false, _, thresholds = roc_curve(positive, scores)
    return float(min(thresholds[np.flatnonzero(np.nan_to_num(false) <= rate)[-1]], 2.0))


def wilson(count: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share, of 95 % by default; (0, 1) of none.

    >>> tuple(round(bound, 4) for bound in wilson(5, 10))
    (0.2366, 0.7634)
    """
    if not total:
        return 0.0, 1.0
    share, scale = count / total, 1 + z**2 / total
    half = z * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / scale
    middle = (share + z**2 / (2 * total)) / scale
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _ratio(
    a: Real[np.ndarray, "*shape"] | np.integer, b: Real[np.ndarray, "*shape"] | np.integer
) -> Float64[np.ndarray, "*shape"]:
    return np.divide(a, b, out=np.zeros(np.shape(a)), where=np.asarray(b) > 0)

"""Scores of a classifier, as pure functions of host arrays: labels i[n], predictions i[n] of
classes 0..N-1, scores or probabilities f[n, N]. Where a ratio is 0/0 it counts as 0."""

import numpy as np


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """i64[N, N]: how often class `row` was called class `column`."""
    pairs = np.asarray(labels) * num_classes + np.asarray(predictions)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def report(confusion: np.ndarray) -> dict[str, float | np.ndarray]:
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


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017, 1706.04599, equation 3), in 0..1: the mean over
    examples of |accuracy - confidence| in their bin of equal width, (a, b]."""
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    bins = np.searchsorted(np.linspace(0, 1, num_bins + 1)[1:-1], confidence)
    gaps = np.bincount(bins, correct - confidence, num_bins)
    return float(np.abs(gaps).sum() / len(confidence))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros(np.shape(a)), where=np.asarray(b) > 0)

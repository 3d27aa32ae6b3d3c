"""A report on a classifier: all metrics of `classification` as JSON, as text and as plots."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from research.evals import classification
from research.util import figures
from research.util.escape import visible
from research.util.files import write_text

Outputs = Mapping[str, tuple[Float[np.ndarray, "_ N"], Int[np.ndarray, " _"]]]  # {split: (probabilities, labels)}
METRICS = ("accuracy", "f1")  # that a threshold may maximise
MOST_CLASSES = 12  # plotted and listed by name
_BLUE, _GREY = "#2a6f97", "#8a8a8a"


def write(
    sample: Callable[[str, Callable], None],
    outputs: Outputs,
    classes: Sequence[str],
    title: str,
    metric: str,
) -> None:
    """Writes the report of all splits, {split: (probabilities, labels)}.

    `sample(name, write)` writes a file: scores.txt, scores.json, and confusion_, roc_ and reliability_<split>.png. For two
    classes and a split "valid", includes the threshold that is best there by `metric` (one of METRICS), and its results.
    """
    summaries = {split: summary(*pair, classes) for split, pair in outputs.items()}
    chosen = threshold(outputs, metric) if len(classes) == 2 and "valid" in outputs else None  # never on test
    as_json = json.dumps({"title": title, **summaries, "threshold": chosen}, indent=1)
    as_text = f"{visible(title)}\n{text(summaries, chosen)}"
    sample("scores.json", lambda file: write_text(file, as_json))
    sample("scores.txt", lambda file: write_text(file, as_text))
    for split, (p, labels) in outputs.items():
        name, confusion = f"{title}, {split}", np.array(summaries[split]["confusion"])
        sample(f"confusion_{split}.png", partial(save_confusion, confusion=confusion, classes=classes, title=name))
        sample(f"roc_{split}.png", partial(save_roc, probabilities=p, labels=labels, classes=classes, title=name))
        sample(f"reliability_{split}.png", partial(save_reliability, probabilities=p, labels=labels, title=name))


def threshold(outputs: Outputs, metric: str) -> dict[str, Any]:
    """The threshold on the second class's probability that is best on "valid", and the metrics at it on every split."""
    p, labels = outputs["valid"]
    value = classification.best_threshold(labels == 1, p[:, 1], metric)
    at = {name: classification.at_threshold(y == 1, q[:, 1], value) for name, (q, y) in outputs.items()}
    return {"value": value, "chosen": f"the best {metric} on valid", "at": at}


def summary(
    probabilities: Float[np.ndarray, "n N"], labels: Int[np.ndarray, " n"], classes: Sequence[str]
) -> dict[str, Any]:
    """Metrics as JSON values; an undefined one, of a class without examples, is None.

    With one label per example the micro averages of precision, recall and F1 are the accuracy.
    """
    confusion = classification.confusion_matrix(labels, probabilities.argmax(1), len(classes))
    metrics = classification.report(confusion)
    areas = classification.one_vs_rest_auc(probabilities, labels)
    finite = areas[np.isfinite(areas)]
    return {
        "examples": len(labels),
        "accuracy": metrics["accuracy"],
        **{f"micro_{k}": metrics["accuracy"] for k in ("precision", "recall", "f1")},
        **{k: v for k, v in metrics.items() if k.startswith("macro_")},
        "macro_auc": float(finite.mean()) if len(finite) else None,
        "calibration_error": classification.calibration_error(probabilities, labels),
        "classes": {
            name: {
                "examples": int(confusion[i].sum()),
                **{k: float(metrics[k][i]) for k in ("precision", "recall", "f1")},
                "auc": float(areas[i]) if np.isfinite(areas[i]) else None,
            }
            for i, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
    }


def text(summaries: Mapping[str, Mapping[str, Any]], chosen: Mapping[str, Any] | None = None) -> str:
    """The summaries of several splits as a table for a terminal, and the threshold that `threshold` chose."""
    lines = []
    for split, scores in summaries.items():
        lines += [
            f"{split}: {scores['examples']:,} examples",
            f"  accuracy {scores['accuracy']:.4f} (micro F1), macro F1 {scores['macro_f1']:.4f}, "
            f"macro AUC {_number(scores['macro_auc'])}, calibration error {scores['calibration_error']:.4f}",
            f"  {'class':<24} {'examples':>8} {'precision':>9} {'recall':>9} {'F1':>9} {'AUC':>9}",
        ]
        for name, row in list(scores["classes"].items())[:MOST_CLASSES]:
            values = " ".join(f"{_number(row[k]):>9}" for k in ("precision", "recall", "f1", "auc"))
            lines.append(f"  {visible(name)[:24]:<24} {row['examples']:>8,} {values}")
        if (more := len(scores["classes"]) - MOST_CLASSES) > 0:
            lines.append(f"  and {more} classes more")
    for split, row in (chosen or {"at": {}})["at"].items():
        values = ", ".join(f"{name} {value:.4f}" for name, value in row.items())
        lines.append(f"{split} at the threshold {chosen['value']:.4f}, {chosen['chosen']}: {values}")
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def save_confusion(path: str | PathLike, confusion: Int[np.ndarray, "N N"], classes: Sequence[str], title: str) -> None:
    """Plots a confusion matrix: rows are labels, columns predictions, shaded by the share of the row."""
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    size = min(3.2 + 0.45 * len(classes), 9)
    figure, axes = _figure(title, (size + 0.6, size))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    few = len(classes) <= MOST_CLASSES
    for row, column in np.ndindex(confusion.shape) if few else ():
        colour = "white" if shares[row, column] > 0.6 else "black"
        axes.text(column, row, f"{confusion[row, column]:,}", ha="center", va="center", color=colour, fontsize=8)
    ticks = range(len(classes)) if few else range(0, len(classes), -(-len(classes) // 25))
    names = [figures.label(classes[i], 20) for i in ticks]
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(ticks, names, fontsize=8)
    axes.set(xlabel="called", ylabel="true")
    _save(figure, path)


def save_roc(
    path: str | PathLike,
    probabilities: Float[np.ndarray, "n N"],
    labels: Int[np.ndarray, " n"],
    classes: Sequence[str],
    title: str,
) -> None:
    """Plots the ROC curve of the second of two classes, or of each against the others; classes without examples are omitted."""
    figure, axes = _figure(title, (4.4, 4))
    axes.plot([0, 1], [0, 1], "--", color=_GREY, linewidth=1)
    areas = classification.one_vs_rest_auc(probabilities, labels)
    for k in [1] if len(classes) == 2 else range(min(len(classes), MOST_CLASSES)):
        if np.isfinite(areas[k]):
            false, true, _ = classification.roc_curve(labels == k, probabilities[:, k])
            axes.plot(false, true, linewidth=1.5, label=f"{figures.label(classes[k], 20)}, {areas[k]:.3f}")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(title="class, area", fontsize=7, title_fontsize=7, loc="lower right", frameon=False)
    _save(figure, path)


def save_reliability(
    path: str | PathLike, probabilities: Float[np.ndarray, "n N"], labels: Int[np.ndarray, " n"], title: str
) -> None:
    """Plots the accuracy, and below it the number of examples, in bins of confidence (Guo et al. 2017, figure 1)."""
    bins = classification.reliability(probabilities, labels)
    error = classification.calibration_error(probabilities, labels)
    edges = np.linspace(0, 1, len(bins["count"]) + 1)
    filled = bins["count"] > 0
    figure = Figure(figsize=(4.2, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    axes.set_title(figures.label(title), fontsize=9)
    axes.bar(edges[:-1], bins["accuracy"], np.diff(edges), align="edge", color=_BLUE, edgecolor="white")
    axes.plot([0, 1], [0, 1], "--", color=_GREY, linewidth=1)
    axes.plot(bins["confidence"][filled], bins["accuracy"][filled], ".", color="black")
    axes.text(0.02, 0.95, f"calibration error {error:.3f}", va="top", fontsize=8)
    axes.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    counts.bar(edges[:-1], bins["count"], np.diff(edges), align="edge", color=_GREY, edgecolor="white")
    counts.set(xlabel="confidence", ylabel="examples")
    _save(figure, path)


def _figure(title: str, size: tuple[float, float]) -> tuple[Figure, Any]:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(figures.label(title), fontsize=9)
    return figure, axes


def _save(figure: Figure, path: str | PathLike) -> None:
    figures.save(figure, path, dpi=110)

"""Pictures of how anomalies are found: ROC curves, and the errors of a clip's frames below them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from experiments.video_anomaly.scores import Scored, known, pooled
from research.data.video.sampling import scaled
from research.evals import images
from research.util import figures

MOST = 6  # kinds of clips that are shown


def roc(found: Mapping[str, Sequence[Scored]], path: Path) -> None:
    """A curve for each way to score the same clips, by frames and by clips."""
    panels = known(next(iter(found.values())))
    figure = Figure(figsize=(4 * len(panels), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for i, per in enumerate(panels):
        axes = figure.add_subplot(
            1, len(panels), i + 1, xlabel=f"share of normal {per}s found", ylabel=f"share of anomalous {per}s found"
        )
        for name, clips in found.items():
            values, anomalous = pooled(clips, per)
            false, true, _ = roc_curve(anomalous, values)
            axes.plot(false, true, label=f"{name}, {roc_auc_score(anomalous, values):.3f}")
        axes.plot([0, 1], [0, 1], color="lightgrey")
        axes.legend(loc="lower right", frameon=False, title="area under")
    figures.save(figure, path, dpi=100)


def errors(data: Any, part: str, scored: Sequence[Scored], path: Path) -> None:
    """The first clip of each kind: its frames, and below each its error, shaded where it is anomalous.

    data  a `VideoAnomaly`; `scored` are all clips of its `part`
    """
    clips = data.held_out[part]
    _, rows = np.unique(clips.labels(), return_index=True)
    figure = Figure(figsize=(9, 1.6 * len(rows[:MOST])), layout="constrained")
    FigureCanvasAgg(figure)
    top = max(scored[row].scores.max() for row in rows[:MOST])
    for i, row in enumerate(rows[:MOST].tolist()):
        frames, (kind, values, truth) = scaled(clips.frames(row, np.arange(clips.length(row)))), scored[row]
        side = frames.shape[2] + 1
        strip = images.grid(np.pad(frames, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=0.5), len(frames))
        upper = figure.add_subplot(2 * len(rows[:MOST]), 1, 2 * i + 1, xticks=[], yticks=[])
        upper.imshow(strip, cmap="gray", vmin=0, vmax=255, aspect="auto")
        upper.set_ylabel(figures.label(data.kinds[kind]), rotation=0, ha="right", va="center")
        lower = figure.add_subplot(
            2 * len(rows[:MOST]),
            1,
            2 * i + 2,
            xlim=(0, side * len(frames)),
            ylim=(0, 1.05 * top),
            xticks=[],
            yticks=[0],
        )
        centres = side * (np.arange(len(frames) - len(values), len(frames)) + 0.5)
        lower.plot(centres, values, ".-", color="tab:red")
        if truth is not None:
            lower.fill_between(centres, 0, np.where(truth, top, 0), step="mid", color="lightgrey")
    figures.save(figure, path, dpi=100)

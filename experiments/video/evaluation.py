"""A picture of what a classifier of clips sees: a clip of each class, frame by frame, and what it was taken for."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.video.data import VideoClassification
from research.core.experiment import Evaluated
from research.evals import images
from research.util import figures

MOST = 10  # classes that are shown


class Evaluation:
    """The evaluator: of the first held-out split "clips.png"; it measures nothing.

    fn  (variables, {"clip": f32[B, V, T, Y, X, C]}) -> {"probabilities": f32[B, N]}
    """

    def __init__(self, fn: Callable, data: VideoClassification):
        self._fn, self._data = jax.jit(fn), data
        self._first = next(iter(data.evals))

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        if split != self._first:
            return Evaluated({})
        return Evaluated({}, {"clips.png": partial(self._draw, state.variables)})

    def _draw(self, variables: Mapping, path: Path) -> None:
        source, classes = self._data.evals[self._first].source, self._data.classes
        _, rows = np.unique(source.labels(), return_index=True)
        batch = source.gather(rows[:MOST], 0)
        predicted = np.asarray(self._fn(variables, {"clip": batch["clip"]})["probabilities"]).argmax(-1)
        figure = Figure(figsize=(9, 0.8 * len(predicted)))
        FigureCanvasAgg(figure)
        figure.subplots_adjust(left=0.18, right=0.82, bottom=0.01, top=0.99, hspace=0.1)
        for i, (windows, label, guess) in enumerate(zip(batch["clip"], batch["label"], predicted, strict=True)):
            axes = figure.add_subplot(len(predicted), 1, i + 1, xticks=[], yticks=[])
            axes.imshow(film(windows[len(windows) // 2]), cmap="gray", vmin=0, vmax=255)
            name = figures.label(classes[label])
            axes.set_ylabel(name, rotation=0, ha="right", va="center")
            found = axes.text(1.01, 0.5, figures.label(classes[guess]), transform=axes.transAxes, va="center")
            found.set_color("black" if guess == label else "tab:red")
        figures.save(figure, path, dpi=100)


def film(clip: np.ndarray) -> np.ndarray:
    """The frames f32[T, Y, X, C] in 0..1 beside each other, a grey line between them -> u8[Y, T (X + 1), C]."""
    return images.grid(np.pad(clip, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=0.5), len(clip))

"""Error by number of examples, as a picture."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from research.util import figures

FLOOR = 1e-6  # below it the logarithmic axis ends: an exact method's error is rounding


def draw(curves: Mapping[str, np.ndarray], dims: int, file: Path) -> None:
    """{name: squared error f[n] after 0..n-1 examples}, the first drawn bold, as a PNG."""
    figure = Figure((6.4, 4), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(
        yscale="log", xlabel="examples in the prompt", ylabel="squared error of y without its noise"
    )
    for i, (name, curve) in enumerate(curves.items()):
        axes.plot(np.maximum(curve, FLOOR), "-" if i == 0 else "--", linewidth=2.2 if i == 0 else 1.2, label=name)
    axes.axvline(dims, color="0.6", linewidth=0.8, linestyle=":")
    axes.annotate(
        f"d = {dims}", (dims, 1), xycoords=("data", "axes fraction"), xytext=(3, -12), textcoords="offset points"
    )
    axes.legend(frameon=False, fontsize=8)
    figures.save(figure, file)

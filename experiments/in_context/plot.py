"""A plot of the squared error by number of examples."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from research.util import figures

FLOOR = 1e-6  # the least value on the logarithmic axis; below it the error of an exact method is rounding


def draw(curves: Mapping[str, np.ndarray], dims: int, file: Path) -> None:
    """Writes `curves`, {name: squared error f[n] after 0..n-1 examples}, as a PNG. The first is a bold line.

    `dims` is the dimension of the inputs, marked on the horizontal axis.
    """
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

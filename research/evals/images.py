"""Samples as PNG files."""

import io
from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from research.util import figures
from research.util.files import write_bytes


def grid(images: Float[np.ndarray, "N Y X C"], columns: int = 0) -> UInt8[np.ndarray, "_ _ C"]:
    """Tiles images in 0..1, row by row: [rows * Y, columns * X, C].

    C is 1 or 3, values outside 0..1 are clipped, missing images are black; `columns=0` makes the
    grid nearly square.
    """
    images = np.asarray(images, np.float32)
    n, y, x, c = images.shape
    columns = columns or int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    tiles = np.zeros((rows * columns, y, x, c), np.uint8)
    tiles[:n] = np.rint(255 * images.clip(0, 1))
    return tiles.reshape(rows, columns, y, x, c).swapaxes(1, 2).reshape(rows * y, columns * x, c)


def save_png(path: str | PathLike, pixels: UInt8[np.ndarray, "Y X C"], scale: int = 1) -> None:
    """Writes pixels, C 1 or 3, each as a square of side `scale`. A link at `path` is replaced, not followed."""
    pixels = pixels.repeat(scale, 0).repeat(scale, 1)
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(out, format="PNG")
    write_bytes(Path(path), out.getvalue())


def save_tiles(path: str | PathLike, images: Float[np.ndarray, "N Y X C"], columns: int) -> None:
    """Writes images in 0..1 as `grid` tiles them, each with a black edge, at least 400 pixels high where whole scales allow."""
    tiles = grid(np.pad(np.asarray(images, np.float32), ((0, 0), (1, 1), (1, 1), (0, 0))), columns)
    save_png(path, tiles, scale=max(1, 400 // len(tiles)))


def save_scatter(path: str | PathLike, points: Float[np.ndarray, "S 2"], centres: Float[np.ndarray, "M 2"]) -> None:
    """Plots 2-D samples over the true centres; samples far outside are cut off."""
    figure = Figure(figsize=(4, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(aspect="equal")
    axes.plot(*np.asarray(centres).T, "+", color="tab:red", markersize=12)
    axes.plot(*np.asarray(points).T, ".", color="black", markersize=3, alpha=0.3)
    reach = 1.5 * np.abs(centres).max()
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
    figures.save(figure, path, dpi=120)

"""A class for each pixel, as runs for a line of JSON and as colours for a picture."""

import colorsys
import itertools

import numpy as np

from research.data.defaults import VOID


def to_runs(labels: np.ndarray) -> list[list[int]]:
    """Labels i[Y, X] -> [label, number of pixels] of each run, row by row.

    >>> to_runs(np.array([[0, 0, 1], [1, 1, 0]]))
    [[0, 2], [1, 3], [0, 1]]
    """
    return [[int(label), len(list(run))] for label, run in itertools.groupby(labels.ravel().tolist())]


def from_runs(runs: list[list[int]], shape: tuple[int, int]) -> np.ndarray:
    """The labels of `to_runs`, i[Y, X], of `shape` (Y, X)."""
    labels, lengths = np.array(runs).T
    return np.repeat(labels, lengths).reshape(shape)


def coloured(labels: np.ndarray) -> np.ndarray:
    """Labels i[Y, X] -> u8[Y, X, 3]: class 0 is black, each further one has a hue of its own, and void is white."""
    colours = np.full((VOID + 1, 3), 255, np.uint8)
    for i in range(VOID):
        hue = colorsys.hsv_to_rgb((i - 1) * 0.618 % 1, 0.75, 0.95 if i else 0)
        colours[i] = np.rint(255 * np.array(hue))
    return colours[labels]

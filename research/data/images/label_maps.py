"""A class for each pixel, as runs for a line of JSON and as colours for a picture."""

import colorsys
import itertools

import numpy as np
from jaxtyping import Integer, UInt8

from research.data.defaults import VOID


def to_runs(labels: Integer[np.ndarray, "Y X"]) -> list[list[int]]:
    """[label, number of pixels] of each run, row by row.

    >>> to_runs(np.array([[0, 0, 1], [1, 1, 0]]))
    [[0, 2], [1, 3], [0, 1]]
    """
    return [[int(label), len(list(run))] for label, run in itertools.groupby(labels.ravel().tolist())]


def from_runs(runs: list[list[int]], shape: tuple[int, int]) -> Integer[np.ndarray, "Y X"]:
    """The labels of `to_runs`, of `shape` (Y, X)."""
    labels, lengths = np.array(runs).T
    return np.repeat(labels, lengths).reshape(shape)


def coloured(labels: Integer[np.ndarray, "Y X"]) -> UInt8[np.ndarray, "Y X 3"]:
    """Class 0 is black, each further one has a hue of its own, and void is white."""
    colours = np.full((VOID + 1, 3), 255, np.uint8)
    for i in range(VOID):
        hue = colorsys.hsv_to_rgb((i - 1) * 0.618 % 1, 0.75, 0.95 if i else 0)
        colours[i] = np.rint(255 * np.array(hue))
    return colours[labels]

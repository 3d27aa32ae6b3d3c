"""Masks in which each object has a number of its own, 1, 2, ..., and the ground is 0."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from research.data import user_files
from research.util.errors import UserError

CLASSES = ("ground", "object")
MOST = 65_535  # objects of a mask: 16 bits


class ObjectMasks:
    """Reads masks of objects, and counts numbers in several pieces, such as an object that another one covers in part."""

    def __init__(self) -> None:
        self._in_pieces: list[str] = []
        self._lost: list[str] = []

    def number(self, mask: np.ndarray, path: Path) -> np.ndarray:
        """i[Y, X] of any numbers from 0 -> i32[Y, X] of 0, 1, 2, ... without gaps.

        Raises UserError for a number below 0, or more than 65,535 objects.
        """
        if (least := int(mask.min())) < 0:
            raise UserError(f"{path} has the number {least}: objects have numbers from 1 on, and the ground is 0")
        names = np.union1d(0, mask)
        if len(names) > MOST + 1:
            raise UserError(f"{path} has {len(names) - 1:,} objects, more than {MOST:,}: cut it into smaller pictures")
        numbers = np.searchsorted(names, mask).astype(np.int32)
        if several := in_pieces(numbers):
            shown = ", ".join(str(names[i]) for i in several[:5]) + ", ..." * (len(several) > 5)
            self._in_pieces.append(f"{path}: {len(several)} of {len(names) - 1} ({shown})")
        return numbers

    def scaled(self, numbers: np.ndarray, path: Path, count: int) -> None:
        """Counts those of a mask's `count` objects that have no pixel in i[Y, X], the scaled mask."""
        if lost := count - np.count_nonzero(np.unique(numbers)):
            self._lost.append(f"{path}: {lost} of {count}")

    def report(self) -> Iterator[str]:
        yield from user_files.listed(
            "warning  masks with a number in separate pieces, which is one object:", self._in_pieces
        )
        yield from user_files.listed("warning  masks that lose objects when scaled to data.size:", self._lost)


def in_pieces(numbers: np.ndarray) -> list[int]:
    """The objects of i[Y, X] that have more than one 8-connected piece."""
    from scipy import ndimage  # slow to import

    boxes = enumerate(ndimage.find_objects(numbers), start=1)
    return [i for i, box in boxes if box and ndimage.label(numbers[box] == i, np.ones((3, 3)))[1] > 1]


def to_labels(numbers: np.ndarray) -> np.ndarray:
    """Objects i[..., Y, X] -> u8[..., Y, X]: 1 in an object, 0 on the ground and where an object touches another one.

    The latter are the pixels with a 4-neighbour of another object: Ronneberger et al. 2015 (1505.04597), section 3, separate
    touching cells by such a line, too.
    """
    inside = numbers > 0
    for axis in (-2, -1):
        first, second = np.moveaxis(numbers, axis, 0)[:-1], np.moveaxis(numbers, axis, 0)[1:]
        touching = (first != second) & (first > 0) & (second > 0)
        lines = np.moveaxis(inside, axis, 0)
        lines[:-1] &= ~touching
        lines[1:] &= ~touching
    return inside.astype(np.uint8)

"""Pictures without their classes: of a user's or a known data set, or scikit-learn's two photographs, cut into squares.

Training, validation and test squares are of three regions that share no pixel.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from research.data import user_files
from research.data.images import labelled
from research.data.pipeline import Source
from research.util.errors import UserError

REGIONS = {"train": (0.0, 0.7), "valid": (0.7, 0.85), "test": (0.85, 1.0)}  # shares of each photograph's columns


class Crops:
    """A source of squares {"image": f32[n, size, size, 3] in 0..1} of photographs, as many as fit side by side.

    They lie side by side; if `random`, each is anywhere, laid in one of the eight ways, as (seed, epoch, index) draw it.
    """

    def __init__(self, photographs: list[np.ndarray], size: int, seed: int, random: bool):
        self.photographs, self.size, self.seed, self.random = photographs, size, seed, random
        self._places = [
            (i, size * row, size * column)
            for i, photograph in enumerate(photographs)
            for row in range(photograph.shape[0] // size)
            for column in range(photograph.shape[1] // size)
        ]

    def __len__(self) -> int:
        return len(self._places)

    def gather(self, indices: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        cut = self._drawn if self.random else self._at
        crops = np.stack([cut(int(index), epoch) for index in indices])
        return {"image": crops.astype(np.float32) / 255}

    def _at(self, index: int, epoch: int) -> np.ndarray:
        i, top, left = self._places[index]
        return self.photographs[i][top : top + self.size, left : left + self.size]

    def _drawn(self, index: int, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, epoch, index))
        photograph = self.photographs[rng.integers(len(self.photographs))]
        top, left = (int(rng.integers(side - self.size + 1)) for side in photograph.shape[:2])
        crop = np.rot90(photograph[top : top + self.size, left : left + self.size], int(rng.integers(4)))
        return crop[:, ::-1] if rng.integers(2) else crop


def parts(cfg: Mapping[str, Any], seed: int) -> tuple[dict[str, Source], list[str], labelled.Images | None]:
    """{part: source of {"image": f32[n, Y, X, C] in 0..1}}, what to report, and the pictures with classes, if they have any.

    `source` is photographs, with `size`, pixels a side of the squares (1 to 64, by default 32), or what `labelled.load` knows.
    """
    if cfg["source"] != "photographs":
        images = labelled.load(cfg)
        found = {"train": images.train, "valid": images.valid, "test": images.test}
        return {part: source for part, source in found.items() if source is not None}, images.report, images
    size = user_files.option(cfg, "size", 32)
    if not isinstance(size, int) or not 1 <= size <= 64:
        raise UserError(f"data.size = {size!r}: pixels a side of the squares that are cut from photographs, 1 to 64")
    squares = load(size, seed)
    counts = ", ".join(f"{len(source):,} {part}" for part, source in squares.items())
    return dict(squares), [f"source   two photographs of scikit-learn's, {size} x {size} pixels each: {counts}"], None


def load(size: int, seed: int) -> dict[str, Crops]:
    """{part: source} of squares of `size` pixels a side."""
    from sklearn.datasets import load_sample_images  # scikit-learn and SciPy are slow to import

    photographs = load_sample_images().images

    def region(part: str) -> list[np.ndarray]:
        start, end = REGIONS[part]
        return [image[:, round(start * image.shape[1]) : round(end * image.shape[1])] for image in photographs]

    return {part: Crops(region(part), size, seed, part == "train") for part in REGIONS}

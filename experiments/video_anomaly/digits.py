"""Clips of a digit that moves straight ahead, and held-out ones in which for a while something is not as in training."""

import numpy as np

from research.data.video.moving_digits import LINES, PARTS, SCALES, SPEEDS, Path, digits_of, render

FOREIGN = (7, 8, 9)  # digits that are not trained on
KINDS = ("normal", "turns", "fast", "digit")
FASTER = 2.5


class Digits:
    """Clips u8[length, size, size, 1], each a function of (seed, part, index), and which of their frames are anomalous.

    A digit of 0 to 6 moves on a torus to the left, right, up or down at its own speed. In training that is all. Of the other
    parts index mod 4 is the kind: normal, or in from a third to a half of its frames, after the first `before`, an anomaly:

    turns  at each frame it goes on to one of the two sides, as fast as before
    fast   it goes straight on, 2.5 times as fast
    digit  it is one of 7, 8 and 9, and moves on
    """

    def __init__(self, part: str, count: int, length: int, size: int, before: int, seed: int):
        self.shape, self._count, self._length, self._before = (size, size, 1), count, length, before
        self._seed, self._trained = (seed, PARTS.index(part)), part == "train"
        pictures, names = digits_of(part)
        foreign = np.isin(names, FOREIGN)
        self._known, self._foreign = pictures[~foreign], pictures[foreign]

    def __len__(self) -> int:
        return self._count

    def labels(self) -> np.ndarray:
        """Numbers of `KINDS`."""
        return np.zeros(self._count, np.int32) if self._trained else np.arange(self._count, dtype=np.int32) % len(KINDS)

    def length(self, index: int) -> int:
        return self._length

    def frames(self, index: int, numbers: np.ndarray) -> np.ndarray:
        pictures, where, _ = self._draw(index)
        return render(pictures[numbers], Path(where.centre[numbers], where.scale[numbers]), self.shape[0])

    def truth(self, index: int) -> np.ndarray:
        """Which frames are anomalous, bool[length]."""
        return self._draw(index)[2]

    def _draw(self, index: int) -> tuple[np.ndarray, Path, np.ndarray]:
        rng, kind = np.random.default_rng((*self._seed, index)), KINDS[self.labels()[index]]
        digit, foreign = (each[rng.integers(len(each))] for each in (self._known, self._foreign))
        straight = rng.uniform(*SPEEDS) * np.array(list(LINES.values())[rng.integers(len(LINES))], float)
        start, scale = rng.uniform(0, self.shape[0], 2), rng.uniform(*SCALES)
        span = int(rng.integers(self._length // 3, self._length // 2 + 1))
        first = int(rng.integers(self._before, max(self._before, self._length - span) + 1))
        number = np.arange(self._length)
        truth = (number >= first) & (number < first + span) & (kind != "normal")
        step = np.tile(straight, (self._length, 1))
        if kind == "turns":
            step[truth] = straight[::-1] * rng.choice([-1, 1], (truth.sum(), 1))
        elif kind == "fast":
            step[truth] *= FASTER
        step[0] = start
        swapped = truth & (kind == "digit")
        return (
            np.where(swapped[:, None, None], foreign, digit),
            Path(step.cumsum(0), np.full(self._length, scale)),
            truth,
        )

"""Clips of one of scikit-learn's digits that moves; the class is the motion.

The canvas is a torus: what leaves it on one side enters on the other. A clip's path begins at a place drawn uniformly on the
torus, and a scale that changes does so in a triangle wave of random phase. So in every class, each single frame has a place
uniform on the torus and a scale uniform in `SCALES`, and says nothing about the motion.
"""

from typing import NamedTuple

import numpy as np

from research.data.images import labelled

# {class: its direction (x, y) of a straight line; the sense of a circle, as seen with y down}
LINES = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
CIRCLES = {"clockwise": 1, "anticlockwise": -1}
MOTIONS = (*LINES, *CIRCLES, "to_and_fro", "zoom")
SCALES = (0.6, 1.0)  # of a digit of 8 x 8 pixels
SPEEDS = (0.5, 1.5)  # pixels a frame
RADII = (2.0, 3.0)  # pixels, of a circle; of the way to and fro from its middle
PERIODS = (6.0, 12.0)  # frames in which a digit grows and shrinks
PARTS = ("train", "valid", "test")


class Path(NamedTuple):
    """Where a digit's centre is in each frame, f64[T, 2] as (x, y) in pixels, and its scale f64[T]."""

    centre: np.ndarray
    scale: np.ndarray


def path(motion: str, length: int, size: int, rng: np.random.Generator) -> Path:
    """A random path of one of `MOTIONS` over `length` frames of a canvas of `size` pixels a side."""
    speed, phase, radius = rng.uniform(*SPEEDS), rng.uniform(), rng.uniform(*RADII)
    t, start = np.arange(length)[:, None], rng.uniform(0, size, 2)
    scale = np.full(length, rng.uniform(*SCALES))
    if motion in LINES:
        return Path(start + speed * t * LINES[motion], scale)
    if motion in CIRCLES:
        angle = 2 * np.pi * phase + CIRCLES[motion] * speed / radius * t
        return Path(start + radius * np.concatenate([np.cos(angle), np.sin(angle)], 1), scale)
    if motion == "to_and_fro":
        along = radius * (2 * triangle(phase + speed * t / (4 * radius)) - 1)
        return Path(start + along * np.eye(2)[rng.integers(2)], scale)
    wave = triangle(phase + np.arange(length) / rng.uniform(*PERIODS))
    return Path(np.broadcast_to(start, (length, 2)), SCALES[0] + wave * (SCALES[1] - SCALES[0]))


def triangle(x: np.ndarray) -> np.ndarray:
    """The triangle wave of period 1 from 0 to 1 and back.

    >>> triangle(np.array([0, 0.25, 0.5, 0.75, 1])).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    return 1 - np.abs(2 * (x % 1) - 1)


def render(digits: np.ndarray, where: Path, size: int) -> np.ndarray:
    """Digits f[T, 8, 8] in 0..1, one a frame, at their places on the torus -> u8[T, size, size, 1], interpolated bilinearly."""
    pixels, cells = np.arange(size), np.arange(digits.shape[-1])
    offset = pixels - where.centre[..., None]  # [T, 2, size], from there the nearest way round:
    offset = (offset + size / 2) % size - size / 2
    cell = offset / where.scale[:, None, None] + (len(cells) - 1) / 2
    weight = np.maximum(0, 1 - np.abs(cell[..., None] - cells))  # of each cell in each pixel, [T, 2, size, 8]
    picture = weight[:, 1] @ digits @ weight[:, 0].swapaxes(1, 2)
    return np.rint(255 * picture).astype(np.uint8)[..., None]


def digits_of(part: str) -> tuple[np.ndarray, np.ndarray]:
    """The digits of a part, f32[n, 8, 8] in 0..1, and which they are, i32[n]. Those of one part are in no other."""
    source = getattr(labelled.load({"source": "digits"}), part)
    batch = source.gather(np.arange(len(source)))
    return batch["image"][..., 0], batch["label"]


class MovingDigits:
    """Clips u8[length, size, size, 1], each a function of (seed, part, index); index mod N is the class."""

    def __init__(self, part: str, count: int, length: int, size: int, seed: int):
        self.shape = (size, size, 1)
        self._digits, _ = digits_of(part)
        self._seed, self._count, self._length, self._size = (seed, PARTS.index(part)), count, length, size

    def __len__(self) -> int:
        return self._count

    def labels(self) -> np.ndarray:
        return np.arange(self._count, dtype=np.int32) % len(MOTIONS)

    def length(self, index: int) -> int:
        return self._length

    def frames(self, index: int, numbers: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng((*self._seed, index))
        digit = self._digits[rng.integers(len(self._digits))]
        where = path(MOTIONS[index % len(MOTIONS)], self._length, self._size, rng)
        shown = Path(where.centre[numbers], where.scale[numbers])
        return render(np.broadcast_to(digit, (len(numbers), *digit.shape)), shown, self._size)

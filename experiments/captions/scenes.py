"""Scenes of two to four coloured shapes on a black canvas, and their pictures. All is drawn from the generator that is passed."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

SIDE = 48  # pixels of the canvas
COLOURS = {"red": (225, 45, 45), "green": (40, 190, 70), "blue": (70, 100, 245), "yellow": (235, 215, 50)}
SIZES = {"small": 3, "large": 6}  # r, pixels from the centre of an object to the sides of its box
# Which pixels of the box an object has: of |x|, y and r, x and y counted from the centre, y down.
SHAPES: dict[str, Callable] = {
    "circle": lambda x, y, r: x**2 + y**2 <= r**2,
    "square": lambda x, y, r: x + abs(y) >= 0,
    "triangle": lambda x, y, r: 2 * x <= y + r,
    "cross": lambda x, y, r: np.minimum(x, abs(y)) <= r // 3,
}
GAP = 3  # pixels by which two centres differ at least, along either axis
TILT = 2  # pixels by which the two differences differ at least, so that one axis separates them more
HELD_OUT = tuple(zip(COLOURS, SHAPES, strict=True))  # colours with shapes that are in no training scene, each once
TRAINING = tuple(pair for pair in itertools.product(COLOURS, SHAPES) if pair not in HELD_OUT)
CANDIDATES = 64  # places tried at once

Pair = tuple[str, str]  # colour, shape


class Object(NamedTuple):
    size: str
    colour: str
    shape: str
    x: int  # of the centre, pixels from the left
    y: int  # and from the top

    @property
    def pair(self) -> Pair:
        return self.colour, self.shape


Scene = tuple[Object, ...]  # from left to right


def draw_pairs(rng: np.random.Generator, novel: bool) -> list[Pair]:
    """Two to four different pairs of colour and shape, all of TRAINING; if `novel` the first is of HELD_OUT."""
    count = int(rng.integers(2, 5))
    first = [HELD_OUT[rng.integers(len(HELD_OUT))]] if novel else []
    return [*first, *(TRAINING[i] for i in rng.permutation(len(TRAINING))[: count - len(first)])]


def compose(rng: np.random.Generator, pairs: Sequence[Pair]) -> Scene:
    """Objects of these pairs, of random sizes and at random places."""
    sizes = [list(SIZES)[i] for i in rng.integers(len(SIZES), size=len(pairs))]
    centres = places(rng, np.array([SIZES[size] for size in sizes]))
    objects = [Object(size, *pair, *map(int, at)) for size, pair, at in zip(sizes, pairs, centres, strict=True)]
    return tuple(sorted(objects, key=lambda o: o.x))


def places(rng: np.random.Generator, radii: np.ndarray) -> np.ndarray:
    """Centres (x, y), i64[n, 2], of objects whose boxes, of `radii` i64[n], are on the canvas and do not touch.

    All centres differ by GAP along either axis, and the two differences by TILT.
    """
    a, b = np.triu_indices(len(radii), 1)
    edge = max(SIZES.values()) + 1
    while True:
        centres = rng.integers(edge, SIDE - edge, (CANDIDATES, len(radii), 2))
        apart = np.abs(centres[:, a] - centres[:, b])
        fits = (apart.min(-1) >= GAP) & (apart.max(-1) > radii[a] + radii[b] + 1) & (np.ptp(apart, -1) >= TILT)
        if (rows := np.flatnonzero(fits.all(-1))).size:
            return centres[rows[0]]


def render(scene: Scene) -> np.ndarray:
    """-> u8[SIDE, SIDE, 3]."""
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    for o in scene:
        r = SIZES[o.size]
        y, x = np.mgrid[-r : r + 1, -r : r + 1]
        box = picture[o.y - r : o.y + r + 1, o.x - r : o.x + r + 1]
        box[SHAPES[o.shape](abs(x), y, r)] = COLOURS[o.colour]
    return picture

"""Anchors: boxes laid over the cells of levels; which of them is asked for which box; and the offsets from one to the other."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.losses import boxes as losses

LEAST = 1e-3  # pixels of a side, at least, of which a logarithm is taken
MOST_GROWTH = float(np.log(1000 / 16))  # of a side, as a logarithm: an untrained network's may be any number


def lay(shape: tuple[int, int], strides: Sequence[int], sizes: Sequence[np.ndarray]) -> np.ndarray:
    """Anchors of canvases of `shape` (Y, X), f32[P, 4], by level, cell and size.

    `sizes` are f[A, 2] of each level, the width and height in pixels of the anchors about each cell's centre.
    """
    levels = []
    for stride, sides in zip(strides, sizes, strict=True):
        y, x = np.mgrid[: shape[0] // stride, : shape[1] // stride]
        centres = (np.stack([x, y], -1).reshape(-1, 1, 2) + 0.5) * stride
        levels.append(np.concatenate([centres - sides / 2, centres + sides / 2], -1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


class Matches(NamedTuple):
    """Of each of P anchors: the number of the box that it overlaps most, i32[B, P]; whether it is that box's; whether no box's.

    An anchor between the limits is neither positive nor negative.
    """

    box: jax.Array
    positive: jax.Array
    negative: jax.Array


def match(
    anchors: jax.Array, boxes: jax.Array, real: jax.Array, low: float, high: float, each_box: bool = False
) -> Matches:
    """Anchors f[P, 4] or f[B, P, 4] against boxes f[B, M, 4] by IoU: positive from `high` on, negative below `low`.

    `real` f[B, M] is 1 for the boxes that do not fill up. With `each_box` the anchor that overlaps a box most is that box's,
    whatever the IoU, if it touches it; the first of equals.
    """
    overlaps = jnp.where(
        real[:, None] > 0, losses.iou(jnp.asarray(anchors)[..., None, :], boxes[:, None]), -1
    )  # [B, P, M]
    best, box = overlaps.max(-1), overlaps.argmax(-1)
    positive = best >= high
    if each_box:
        chosen = overlaps.argmax(1)[:, None] == jnp.arange(overlaps.shape[1])[:, None]
        forced = jnp.where(chosen & (overlaps > 0), overlaps, -1)
        box = jnp.where(forced.max(-1) > 0, forced.argmax(-1), box)
        positive |= forced.max(-1) > 0
    return Matches(box, positive, ~positive & (best < low))


def highest(values: jax.Array, count: jax.Array) -> jax.Array:
    """Which of values f[B, P] are among the `count` i32[B] greatest of their row, bool[B, P]; those below 0 never are."""
    rank = jnp.argsort(jnp.argsort(-values))
    return (rank < count[:, None]) & (values >= 0)


def encode(boxes: jax.Array, anchors: jax.Array, scales: tuple[float, float]) -> jax.Array:
    """The offsets f[..., 4] from anchors to boxes: of the centre over the anchor's sides, and the logarithm of the sides' ratios.

    Girshick et al. 2014 (1311.2524), appendix C. `scales` are what both are multiplied by, so that targets are about 1.
    """
    centre, sides = _centre_and_sides(boxes)
    anchor_centre, anchor_sides = _centre_and_sides(anchors)
    shift = (centre - anchor_centre) / anchor_sides * scales[0]
    return jnp.concatenate([shift, jnp.log(sides / anchor_sides) * scales[1]], -1)


def decode(offsets: jax.Array, anchors: jax.Array, scales: tuple[float, float]) -> jax.Array:
    """The inverse of `encode`, f32[..., 4]; a side grows by 62.5 times at most, Detectron's bound."""
    offsets = offsets.astype(jnp.float32)
    centre, sides = _centre_and_sides(anchors)
    centre += offsets[..., :2] / scales[0] * sides
    sides = sides * jnp.exp(jnp.minimum(offsets[..., 2:] / scales[1], MOST_GROWTH))
    return jnp.concatenate([centre - sides / 2, centre + sides / 2], -1)


def _centre_and_sides(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, jnp.maximum(high - low, LEAST)

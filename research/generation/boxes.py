"""From a grid's outputs to a fixed number of boxes: distances to boxes, non-maximum suppression, the picture's own pixels."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Found(NamedTuple):
    """The K best boxes of each picture, best first; what fills up has score 0. f32[B, K, 4], i32[B, K], f32[B, K]."""

    boxes: jax.Array
    labels: jax.Array
    scores: jax.Array


def from_distances(sides: jax.Array, points: jax.Array, strides: jax.Array) -> jax.Array:
    """Logits f[B, P, 4, R] of the distances 0..R-1, in strides, from a point to its box's left, upper, right and lower side.

    With the points (x, y) f[P, 2] and their strides f[P] -> boxes f32[B, P, 4].
    A distance is the mean of its distribution (Li et al. 2020, 2006.04388, eq. 4).
    """
    bins = jnp.arange(sides.shape[-1], dtype=jnp.float32)
    distances = (jax.nn.softmax(sides.astype(jnp.float32)) * bins).sum(-1) * strides[:, None]
    return jnp.concatenate([points - distances[..., :2], points + distances[..., 2:]], -1)


def non_maximum_suppression(
    boxes: jax.Array, scores: jax.Array, most_overlap: float, keep: int, candidates: int
) -> Found:
    """Of each class, a box is dropped that overlaps a better kept one by an IoU above `most_overlap`; the `keep` best stay.

    boxes f[B, P, 4], scores f[B, P, N].
    The `candidates` best of all points and classes take part. A point may be of several classes.
    """
    classes = scores.shape[-1]

    def one(boxes: jax.Array, scores: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        count = min(candidates, scores.size)
        best, places = jax.lax.top_k(scores.reshape(-1), count)
        boxes, labels = boxes[places // classes], places % classes
        overlapping = (_iou(boxes) > most_overlap) & (labels[:, None] == labels[None])
        later = jnp.arange(count)

        def drop(i: jax.Array, kept: jax.Array) -> jax.Array:
            return kept & ~(kept[i] & overlapping[i] & (later > i))

        kept = jax.lax.fori_loop(0, count, drop, best > 0)
        best, order = jax.lax.top_k(jnp.where(kept, best, 0), min(keep, count))
        return jnp.where(best[:, None] > 0, boxes[order], 0), jnp.where(best > 0, labels[order], 0), best

    return Found(*jax.vmap(one)(boxes.astype(jnp.float32), scores.astype(jnp.float32)))


def to_picture(boxes: jax.Array, size: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Boxes f[B, K, 4] on a letterboxed canvas of `shape` (Y, X) -> in the pixels of the pictures, cut at their edges.

    `size` i32[B, 2] are the pictures' (Y, X).
    The inverse of research/data/boxes/letterbox.py.
    """
    canvas, size = jnp.asarray(shape, jnp.float32), jnp.maximum(size, 1).astype(jnp.float32)
    scale = (canvas / size).min(-1, keepdims=True)  # [B, 1]
    margin = (canvas - size * scale) / 2
    both = (boxes - jnp.tile(margin[:, ::-1], 2)[:, None]) / scale[..., None]
    return jnp.clip(both, 0, jnp.tile(size[:, ::-1], 2)[:, None])


def _iou(boxes: jax.Array) -> jax.Array:
    low = jnp.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = jnp.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = jnp.prod(jnp.maximum(high - low, 0), -1)
    area = jnp.prod(boxes[:, 2:] - boxes[:, :2], -1)
    return common / jnp.maximum(area[:, None] + area[None] - common, 1e-7)

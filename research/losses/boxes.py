"""Losses of boxes (x1, y1, x2, y2), and which points of a grid are asked for which box (task-aligned assignment)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float, Float32, Int

from research.core.arrays import Array

EPS = 1e-7


def area(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(a: Float[Array, "*n 4"], b: Float[Array, "*m 4"]) -> Float[Array, "*k"]:
    """Intersection over union; the leading axes are broadcast.

    >>> round(float(iou(jnp.array([0.0, 0, 2, 2]), jnp.array([1.0, 0, 3, 2]))), 3)
    0.333
    """
    common, union = _common_and_union(a, b)
    return common / (union + EPS)


def giou(a: Float[Array, "*n 4"], b: Float[Array, "*m 4"]) -> Float[Array, "*k"]:
    """IoU less the share of the enclosing box that neither covers (Rezatofighi et al. 2019, 1902.09630, algorithm 1): -1 to 1."""
    common, union = _common_and_union(a, b)
    low, high = _enclosing(a, b)
    enclosing = jnp.prod(high - low, -1)
    return common / (union + EPS) - (enclosing - union) / (enclosing + EPS)


def ciou(a: Float[Array, "*n 4"], b: Float[Array, "*m 4"]) -> Float[Array, "*k"]:
    """IoU less the centres' squared distance over the enclosing box's diagonal, and less the difference of aspects.

    Zheng et al. 2020, 1911.08287, "complete IoU". The weight of the aspects has no gradient, as in their code.
    """
    overlap = iou(a, b)
    low, high = _enclosing(a, b)
    diagonal = jnp.square(high - low).sum(-1)
    distance = jnp.square((a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2).sum(-1)
    aspect = 4 / np.pi**2 * jnp.square(_angle(b) - _angle(a))
    weight = jax.lax.stop_gradient(aspect / (1 - overlap + aspect + EPS))
    return overlap - distance / (diagonal + EPS) - weight * aspect


def distribution_focal(logits: Float[Array, "*n R"], targets: Float[Array, "*n"]) -> Float32[Array, "*n"]:
    """Cross-entropy with the two whole numbers beside a target in 0..R-1, each by its nearness (Li et al. 2020, 2006.04388)."""
    logits, last = logits.astype(jnp.float32), logits.shape[-1] - 1
    targets = jnp.clip(targets.astype(jnp.float32), 0, last)
    nearness = jnp.maximum(1 - jnp.abs(jnp.arange(last + 1) - targets[..., None]), 0)
    return -(nearness * jax.nn.log_softmax(logits)).sum(-1)


def quality_focal(logits: Float[Array, "*n"], targets: Float[Array, "*n"], gamma: float) -> Float32[Array, "*n"]:
    """|target - score|^gamma times the binary cross-entropy with a target in 0..1 (Li et al. 2020, 2006.04388).

    With gamma 0 it is the binary cross-entropy alone.
    """
    logits, targets = logits.astype(jnp.float32), targets.astype(jnp.float32)
    entropy = optax.sigmoid_binary_cross_entropy(logits, targets)
    if not gamma:
        return entropy
    return jnp.abs(targets - jax.nn.sigmoid(logits)) ** gamma * entropy


def smooth_l1(errors: Float[Array, "*n"], knee: float) -> Float32[Array, "*n"]:
    """|error| less knee / 2 from `knee` on, error^2 / (2 knee) below it (Girshick 2015, 1504.08083, eq. 3, where it is at 1)."""
    return optax.huber_loss(errors.astype(jnp.float32), delta=knee) / knee


class Assignment(NamedTuple):
    """What each point of a grid is asked for.

    boxes    f32[B, P, 4]: the box of a positive point
    scores   f32[B, P, N]: the target of each class, 0 for all of a negative point
    positive bool[B, P]
    """

    boxes: Float32[Array, "B P 4"]
    scores: Float32[Array, "B P N"]
    positive: Bool[Array, "B P"]


def task_aligned(
    scores: Float[Array, "B P N"],
    predicted: Float[Array, "B P 4"],
    points: Float[Array, "P 2"],
    boxes: Float[Array, "B M 4"],
    labels: Int[Array, "B M"],
    real: Float[Array, "B M"],
    top: int = 13,
    alpha: float = 1.0,
    beta: float = 6.0,
) -> Assignment:
    """The `top` points of each box by alignment, score^alpha * IoU^beta, among those inside it (Feng et al. 2021, 2108.07755).

    A point of several boxes is for that which its prediction overlaps most. The target of a box's class at its points is the
    alignment, scaled so that the greatest of a box is the greatest IoU among its points (section 3.2). `real` is 1 for
    the boxes that do not fill up. Dense, without a scatter: the same on any device. Passes no gradient.
    """
    scores, predicted = jax.lax.stop_gradient((scores.astype(jnp.float32), predicted.astype(jnp.float32)))
    offsets = jnp.concatenate([points - boxes[:, :, None, :2], boxes[:, :, None, 2:] - points], -1)  # [B, M, P, 4]
    inside = (offsets.min(-1) > 0) & (real[..., None] > 0)
    overlaps = jnp.where(inside, iou(boxes[:, :, None], predicted[:, None]), 0)  # [B, M, P]
    one_hot = jax.nn.one_hot(labels, scores.shape[-1])
    aligned = jnp.einsum("bmn,bpn->bmp", one_hot, scores, precision="highest") ** alpha * overlaps**beta
    aligned = jnp.where(inside, aligned, -1)
    best, places = jax.lax.top_k(aligned, min(top, len(points)))
    # Of a box that no prediction overlaps the alignments are 0, and the first points inside it are taken.
    chosen = ((places[..., None] == jnp.arange(len(points))) & (best[..., None] >= 0)).any(2)  # [B, M, P]
    owner = jnp.where(chosen, overlaps, -1).argmax(1)  # [B, P]
    mine = chosen & (owner[:, None] == jnp.arange(boxes.shape[1])[:, None])
    aligned, overlaps = jnp.where(mine, aligned, 0), jnp.where(mine, overlaps, 0)
    scale = overlaps.max(-1, keepdims=True) / (aligned.max(-1, keepdims=True) + 1e-9)
    target = jnp.einsum("bmp,bmn->bpn", aligned * scale, one_hot, precision="highest")
    return Assignment(
        jnp.einsum("bmp,bmf->bpf", mine.astype(jnp.float32), boxes.astype(jnp.float32), precision="highest"),
        target,
        mine.any(1),
    )


def _common_and_union(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    low, high = jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])
    common = jnp.prod(jnp.maximum(high - low, 0), -1)
    return common, area(a) + area(b) - common


def _enclosing(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.minimum(a[..., :2], b[..., :2]), jnp.maximum(a[..., 2:], b[..., 2:])


def _angle(boxes: jax.Array) -> jax.Array:
    return jnp.arctan((boxes[..., 2] - boxes[..., 0]) / (boxes[..., 3] - boxes[..., 1] + EPS))

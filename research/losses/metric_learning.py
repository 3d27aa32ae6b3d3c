"""Losses of embeddings that are compared: of one class near, of different classes far. Embeddings have norm 1."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int

from research.core.arrays import Array


def triplet(
    embeddings: Float[Array, "B D"], labels: Int[Array, " B"], margin: float
) -> tuple[Float32[Array, " B"], Float32[Array, " B"]]:
    """The hinge on margin + d(anchor, positive) - d(anchor, negative), with each anchor's farthest positive and nearest negative.

    Distances are Euclidean (Hermans et al. 2017, 1703.07737, eq. 5, "batch hard"). Returns the loss of each anchor and its
    weight: 0 for one that has no positive or no negative in the batch.
    """
    embeddings = embeddings.astype(jnp.float32)
    squares = jnp.maximum(2 - 2 * embeddings @ embeddings.T, 0)
    distances = jnp.sqrt(jnp.where(squares > 0, squares, 1)) * (squares > 0)  # a gradient of 0 where the distance is 0
    same = labels[:, None] == labels[None]
    positive = same & ~jnp.eye(len(labels), dtype=bool)
    farthest = jnp.where(positive, distances, -jnp.inf).max(1)
    nearest = jnp.where(same, jnp.inf, distances).min(1)
    real = positive.any(1) & ~same.all(1)
    loss = jax.nn.relu(margin + jnp.where(real, farthest, 0) - jnp.where(real, nearest, 0))
    return jnp.where(real, loss, 0), real.astype(jnp.float32)


def arcface_logits(
    cosines: Float[Array, "B N"], labels: Int[Array, " B"], margin: float, scale: float
) -> Float32[Array, "B N"]:
    """Logits scale * cos(angle), with `margin` radians added to the angle of each example's own class.

    Deng et al. 2019, 1801.07698, eq. 3. Where the sum would be beyond pi, the logit falls on as in their code:
    cos(angle) - margin sin(margin).

    >>> arcface_logits(jnp.array([[0.5, 0.5]]), jnp.array([0]), margin=np.pi / 3, scale=10.0).round(3).tolist()  # cos 120°, 60°
    [[-5.0, 5.0]]
    """
    cosines = cosines.astype(jnp.float32)
    own = jax.nn.one_hot(labels, cosines.shape[-1], dtype=bool)
    inside = jnp.clip(cosines, -1 + 1e-6, 1 - 1e-6)  # the sine has no gradient at its ends
    moved = inside * np.cos(margin) - jnp.sqrt(1 - jnp.square(inside)) * np.sin(margin)
    moved = jnp.where(inside > np.cos(np.pi - margin), moved, cosines - margin * np.sin(margin))
    return scale * jnp.where(own, moved, cosines)

"""Losses of a class for each pixel. A pixel labelled `VOID` counts in none of them."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, Int

from research.core.arrays import Array
from research.data.defaults import VOID
from research.losses.classification import negative_log_likelihood


def pixel_cross_entropy(
    logits: Float[Array, "B Y X N"],
    labels: Int[Array, "B Y X"],
    weights: Float[Array, "B Y X"] | None = None,
) -> tuple[Float32[Array, ""], Float32[Array, ""]]:
    """The cross-entropy in nats over all pixels that are not void: its (sum, weight), each pixel weighed by `weights`.

    >>> loss, weight = pixel_cross_entropy(jnp.zeros((1, 1, 3, 2)), jnp.array([[[0, 1, VOID]]]), jnp.array([[[1.0, 3.0, 5.0]]]))
    >>> round(float(loss), 4), float(weight)  # 4 ln 2
    (2.7726, 4.0)
    """
    real = (labels != VOID).astype(jnp.float32)
    counted = real if weights is None else real * weights
    loss = negative_log_likelihood(logits, jnp.where(labels == VOID, 0, labels))
    return jnp.sum(loss * counted), jnp.sum(counted)


def soft_dice(logits: Float[Array, "B Y X N"], labels: Int[Array, "B Y X"]) -> Float32[Array, " B"]:
    """1 - 2 sum(p g) / (sum(p²) + sum(g²)) of each picture, the mean over the classes that it has (Milletari et al. 2016,
    1606.04797, section 3). p are the probabilities, g is 1 at the class's pixels and 0 elsewhere; 0 for a picture that is void.
    """
    real = (labels != VOID).astype(jnp.float32)[..., None]
    p = jax.nn.softmax(logits.astype(jnp.float32)) * real
    g = jax.nn.one_hot(labels, logits.shape[-1])  # zero where void
    both, total, has = (p * g).sum((1, 2)), (jnp.square(p) + g).sum((1, 2)), g.any((1, 2))
    losses = jnp.where(has, 1 - 2 * both / jnp.maximum(total, 1e-9), 0)
    return losses.sum(-1) / jnp.maximum(has.sum(-1), 1)

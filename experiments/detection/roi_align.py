"""RoI align (He et al. 2017, 1703.06870, section 3) as two matrix products, so that its gradient is matrix products, too.

A sample's bilinear weights are the product of its row's and its column's, and so are the means over the samples of a bin: a box
has a matrix of rows [S, Y] and one of columns [S, X]. The gradient of a gather would be a scatter-add, and its order of additions
is not defined on a GPU.
"""

import jax
import jax.numpy as jnp

SAMPLES = 2  # of a bin, along each side: four in all, as in section 3


def roi_align(features: jax.Array, boxes: jax.Array, bins: int) -> jax.Array:
    """Features f[B, Y, X, C] at boxes f[B, R, 4], (x1, y1, x2, y2) in cells -> f[B, R, S, S, C], S = `bins`.

    The values are those of torchvision's `roi_align(aligned=True, sampling_ratio=2)`: the centre of the first cell is at 0.5, and
    a sample more than a cell outside is 0.
    """
    rows = bin_weights(boxes[..., 1], boxes[..., 3], bins, features.shape[1])
    columns = bin_weights(boxes[..., 0], boxes[..., 2], bins, features.shape[2])
    return jnp.einsum("brsy,brtx,byxc->brstc", rows, columns, features)


def bin_weights(low: jax.Array, high: jax.Array, bins: int, size: int) -> jax.Array:
    """The weights of `size` cells in the means of the bins between `low` and `high`, f[...] -> f[..., bins, size]."""
    shares = (jnp.arange(bins * SAMPLES) + 0.5) / (bins * SAMPLES)
    at = low[..., None] - 0.5 + shares * (high - low)[..., None]
    inside = (at >= -1) & (at <= size)
    at = jnp.clip(at, 0, size - 1)
    weights = jnp.maximum(1 - jnp.abs(at[..., None] - jnp.arange(size)), 0) * inside[..., None]
    return weights.reshape(*low.shape, bins, SAMPLES, size).mean(-2)

"""How far apart two pictures are to a network, within a region."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32

from research.core.arrays import Array

EPSILON = 1e-10  # beside the length of a place's features, as in LPIPS's code


def feature_distance(
    a: Sequence[Float[Array, "B _ _ _"]], b: Sequence[Float[Array, "B _ _ _"]], region: Float[Array, "B Y X"]
) -> Float32[Array, " B"]:
    """The distance of two batches of pictures from their features in several layers: the sum over layers.

    Of a layer it is the squared difference of the two features of a place, each made one long, as a mean over the places
    that `region` weighs, brought to the layer's size by interpolation. This is LPIPS (Zhang et al. 2018, 1801.03924, eq. 1) with
    all its learnt weights at 1, and of another network than theirs: values compare with each other and not with published ones.

    >>> a, b = jnp.ones((1, 2, 2, 1)), jnp.ones((1, 2, 2, 1)).at[0, 0].set(-3.0)
    >>> feature_distance([a], [b], jnp.ones((1, 2, 2))).tolist()  # two of four places have 1 and -1
    [2.0]
    """
    total = jnp.zeros(len(region), jnp.float32)
    for x, y in zip(a, b, strict=True):
        difference = jnp.square(_unit(x) - _unit(y)).sum(-1)
        weights = jax.image.resize(region.astype(jnp.float32), difference.shape, "linear")
        total += (weights * difference).sum((1, 2)) / weights.sum((1, 2))
    return total


def _unit(x: Float[Array, "B _ _ C"]) -> Float32[Array, "B _ _ C"]:
    x = x.astype(jnp.float32)
    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + EPSILON)

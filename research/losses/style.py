"""What a picture shows and in which style, by a fixed network's features (Gatys, Ecker and Bethge 2016, 1508.06576).

Each term is relative to the target's own size, so that a network's scale does not enter: 0 where both agree.
"""

import jax.numpy as jnp
from jaxtyping import Float, Float32

from research.core.arrays import Array


def gram(x: Float[Array, "B Y X C"]) -> Float32[Array, "B C C"]:
    """Products of channels, as a mean over places: the style of a layer, in which no place is left.

    >>> gram(jnp.array([[1.0, 0.0], [3.0, 2.0]]).reshape(1, 1, 2, 2)).tolist()
    [[[5.0, 3.0], [3.0, 2.0]]]
    """
    x = x.astype(jnp.float32)
    return jnp.einsum("byxc,byxd->bcd", x, x, precision="highest") / (x.shape[1] * x.shape[2])


def content(x: Float[Array, "B Y X C"], target: Float[Array, "B Y X C"]) -> Float32[Array, " B"]:
    """The squared difference of two pictures' features, relative to the square of the target's."""
    x, target = x.astype(jnp.float32), target.astype(jnp.float32)
    return jnp.square(x - target).sum((1, 2, 3)) / jnp.square(target).sum((1, 2, 3))


def style(x: Float[Array, "B Y X C"], target: Float[Array, "C C"]) -> Float32[Array, " B"]:
    """The squared difference of a layer's Gram matrix from `target`, relative to the square of that."""
    target = target.astype(jnp.float32)
    return jnp.square(gram(x) - target).sum((1, 2)) / jnp.square(target).sum()


def total_variation(image: Float[Array, "B Y X C"]) -> Float32[Array, " B"]:
    """The mean squared difference of neighbouring pixels, down and to the right together.

    >>> total_variation(jnp.array([[0.0, 1.0], [0.0, 1.0]]).reshape(1, 2, 2, 1)).tolist()
    [1.0]
    """
    x = image.astype(jnp.float32)
    down, right = x[:, 1:] - x[:, :-1], x[:, :, 1:] - x[:, :, :-1]
    return jnp.square(down).mean((1, 2, 3)) + jnp.square(right).mean((1, 2, 3))

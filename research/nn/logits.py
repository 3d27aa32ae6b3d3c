"""Deferred logits: a model's last hidden states and its vocabulary matrix, for the loss to multiply in chunks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Float, Float32

from research.core.arrays import Array
from research.core.mesh import data_parts
from research.nn.linear import flat_dot


class DeferredLogits(struct.PyTreeNode):
    """The factors of logits f32[..., V]. Adding a bias f[V] gives `DeferredLogits` again; `array` computes the product."""

    hidden: jax.Array  # f[..., D]
    matrix: jax.Array  # f[V, D] or f[D, V]
    bias: jax.Array | None = None  # f[V]
    axis: int = struct.field(pytree_node=False, default=1)  # of the matrix: that of D

    @property
    def shape(self) -> tuple[int, ...]:
        return *self.hidden.shape[:-1], self.matrix.shape[1 - self.axis]

    @property
    def device_bytes(self) -> int:
        """Bytes of the logits that one device would hold, rows being split over the mesh's data axis."""
        return 4 * self.hidden.size // self.hidden.shape[-1] * self.shape[-1] // data_parts(self.shape[0])

    def array(self) -> Float32[Array, "*batch V"]:
        """The logits, summed in f32 whatever the dtype of the factors."""
        dims = (((self.hidden.ndim - 1,), (self.axis,)), ((), ()))
        logits = flat_dot(self.hidden, self.matrix, dims, preferred_element_type=jnp.float32)
        return logits if self.bias is None else logits + self.bias

    def last(self, count: int) -> "DeferredLogits":
        """Those of the last `count` tokens, f32[B, count, V]."""
        return self if count == self.hidden.shape[-2] else self.replace(hidden=self.hidden[..., -count:, :])

    def __add__(self, bias: Float[Array | np.ndarray, " V"]) -> "DeferredLogits":
        return self.replace(bias=bias if self.bias is None else self.bias + bias)


def logits_dot(defer: bool) -> Any:
    """The product of a model's head, with the signature of `jax.lax.dot_general`, over the last axis of x f[..., D].

    It returns logits f32[..., V], or with `defer` their `DeferredLogits`.
    """

    def dot(
        x: Float[Array, "*batch D"], matrix: Float[Array | np.ndarray, "rows columns"], dims: Any, **options: Any
    ) -> Float32[Array, "*batch V"] | DeferredLogits:
        logits = DeferredLogits(x, matrix, axis=dims[0][1][0])
        return logits if defer else logits.array()

    return dot

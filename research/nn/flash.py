"""Attention by cuDNN's fused kernels (FlashAttention: Dao et al. 2022, 2205.14135), which never hold an array [T, S].

Used if the program is for an NVIDIA GPU of compute capability 8.0 (Ampere) or later, as the mesh at tracing time tells.
Programs for a CPU or a TPU, and those exported for several devices, use the einsum. So do documents packed into one window:
cuDNN separates segments only on Hopper, not through `jax.nn`, and needs f32[B M, H, T] for up to M segments.
"""

from functools import cache

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Bool, Float, Int, Shaped

from research.core import mesh
from research.core.arrays import Array

WIDEST_HEAD = 128  # K; 256 needs Hopper
SHORTEST = 256  # tokens; below, the array [T, S] is small and the einsum is as fast


class Mask(struct.PyTreeNode):
    """An attention mask together with its structure, from which a kernel computes it.

    `array` is bool, True where T may attend to S, and broadcasts against [B, N, G, T, S]; `keys` and `causal` define the same.
    """

    array: jax.Array
    keys: jax.Array | None = None  # bool[B, S]: False for padding, which is not attended to
    causal: bool = struct.field(pytree_node=False, default=False)  # t attends to 0..t


def fits(q: Float[Array, "B T N G K"], k: Float[Array, "B S N K"], mask: Bool[Array, "..."] | Mask | None) -> bool:
    """Whether `attend` supports, and is faster for, these queries and keys on the device traced for."""
    T, K, S = q.shape[1], q.shape[-1], k.shape[1]
    narrow = q.dtype == k.dtype and q.dtype in (jnp.bfloat16, jnp.float16)
    structured = mask is None or isinstance(mask, Mask)
    return structured and narrow and K % 8 == 0 and K <= WIDEST_HEAD and min(T, S) >= SHORTEST and on_device()


def attend(
    q: Float[Array, "B T N G K"],
    k: Float[Array, "B S N K"],
    v: Float[Array, "B S N K"],
    mask: Mask | None = None,
) -> Float[Array, "B T N G K"]:
    """`research.nn.attention.attend` without dropout.

    Equal within bf16's rounding, except for a row whose keys are all padding: it attends to the first, not to all equally.
    """
    B, T, N, G, K = q.shape
    lengths = None
    if mask is not None and mask.keys is not None:
        k, v, lengths = _padding_last(k, v, mask.keys)
    causal = mask is not None and mask.causal
    options = {"is_causal": causal, "key_value_seq_lengths": lengths, "implementation": "cudnn"}
    return jax.nn.dot_product_attention(q.reshape(B, T, N * G, K), k, v, **options).reshape(q.shape)


def on_device() -> bool:
    """Whether the current mesh is of GPUs that have the kernels. False without a mesh."""
    device = mesh.abstract_device()
    return device is not None and device.platform == "gpu" and _has_kernels(device.device_kind)


@cache
def _has_kernels(kind: str) -> bool:
    """Whether this process's devices of that kind are NVIDIA's, of compute capability 8.0 or more (AMD's say "gfx90a")."""
    capabilities = [d.compute_capability for d in jax.local_devices(backend="gpu") if d.device_kind == kind]
    major = capabilities[0].split(".")[0] if capabilities else ""
    return major.isdigit() and int(major) >= 8


def _padding_last(
    k: Float[Array, "B S N K"], v: Float[Array, "B S N K"], keys: Bool[Array, "B S"]
) -> tuple[Float[Array, "B S N K"], Float[Array, "B S N K"], Int[Array, " B"]]:
    """Keys and values with the padding moved to the end, and their lengths, which the kernels take in place of masks.

    Attention does not depend on the order of keys, so padding may be anywhere.
    """
    order = jnp.argsort(~keys, axis=-1, stable=True)
    inverse = jnp.argsort(order, axis=-1)
    lengths = jnp.maximum(keys.sum(-1, dtype=jnp.int32), 1)
    return _permute(k, order, inverse), _permute(v, order, inverse), lengths


@jax.custom_vjp
def _permute(
    x: Shaped[Array, "B S *rest"], order: Int[Array, "B S"], inverse: Int[Array, "B S"]
) -> Shaped[Array, "B S *rest"]:
    """x permuted by `order`. The gradient is a gather by the inverse, where JAX's own is a scatter."""
    return jax.vmap(lambda row, at: row[at])(x, order)


_permute.defvjp(
    lambda x, order, inverse: (_permute(x, order, inverse), (order, inverse)),
    lambda orders, slope: (_permute(slope, orders[1], orders[0]), None, None),
)

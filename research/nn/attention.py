"""Scaled dot-product attention: self-attention with grouped queries, cross-attention, and rotary positions.

Sources: Vaswani et al. 2017 (1706.03762), eq. 1; grouped queries: Ainslie et al. 2023
(2305.13245); rotary positions: Su et al. 2021 (2104.09864), section 3.4.2.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32, Int

from research.core.arrays import Array
from research.nn import flash
from research.nn.flash import Mask
from research.nn.linear import einsum, flat_dot
from research.nn.softmax import softmax

# "k" and "v" of S tokens; not named, as a call may have two caches of unequal S. A head's tokens lie together, as the products
# with them want: with heads inside tokens, each new token had a copy of the whole cache transposed.
Cache = dict[str, Float[Array, "B N _ K"]]
Memory = dict[str, Float[Array, "B _ H K"]]  # "k" and "v" of the sequence that another attends to


def attend(
    q: Float[Array, "B T N G K"],
    k: Float[Array, "B S N K"],
    v: Float[Array, "B S N K"],
    mask: Bool[Array, "..."] | Mask | None = None,
    drop: Callable[[Float32[Array, "B N G T S"]], Float[Array, "B N G T S"]] = lambda weights: weights,
) -> Float[Array, "B T N G K"]:
    """softmax(q k / sqrt(K)) v.

    Each of N groups of G query heads shares one key and one value head (H = N G). `mask` is True where query T may
    attend to key S, and broadcasts against [B, N, G, T, S]; a query with no allowed key attends to all equally. The softmax
    is f32; `drop` is applied to its weights.

    >>> q, k, v = jnp.zeros((1, 1, 1, 1, 1)), jnp.zeros((1, 2, 1, 1)), jnp.array([2.0, 4.0]).reshape(1, 2, 1, 1)
    >>> attend(q, k, v).item(), attend(q, k, v, jnp.array([True, False])).item()
    (3.0, 2.0)
    """
    mask = mask.array if isinstance(mask, Mask) else mask
    scores = einsum("btngk,bsnk->bngts", q, k, jnp.float32)
    scores = scores * q.shape[-1] ** -0.5
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    weights = drop(softmax(scores)).astype(v.dtype)
    return einsum("bngts,bsnk->btngk", weights, v)


def angles(
    positions: Int[Array, "*batch T"], size: int, base: float = 10_000.0
) -> Float32[Array, "*batch T {size}//2"]:
    """Rotary angles in radians of positions, for an even head width K = `size`."""
    frequencies = base ** (-jnp.arange(0, size, 2, dtype=jnp.float32) / size)
    return positions[..., None] * frequencies


def rotate(
    x: Float[Array, "B T *heads K"], rotary: Float[Array, "T K//2"] | Float[Array, "B T K//2"]
) -> Float[Array, "B T *heads K"]:
    """Rotates pairs (x[i], x[i + K/2]) by the angles `rotary`.

    Pairs one half with the other (GPT-NeoX, Llama), where the paper pairs neighbours: the two
    differ by a fixed permutation of a head's K columns. Computed in f32.
    """
    rotary = rotary.reshape(*rotary.shape[:-1], *(1,) * (x.ndim - 3), rotary.shape[-1])
    cos, sin = jnp.cos(rotary), jnp.sin(rotary)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


class Attention(nn.Module):
    """Self-attention: x -> the same shape, and the updated cache (None without one).

    The columns of `qkv/kernel`, [D, N (G + 2) K], are ordered by group: G query heads, their key head,
    their value head. Sharding the columns over N devices therefore never splits a head.

    >>> (y, _), _ = Attention(num_heads=2).init_with_output(jax.random.key(0), jnp.ones((1, 3, 8)))
    >>> y.shape
    (1, 3, 8)
    """

    num_heads: int
    kv_heads: int | None = None  # N; None: as many as num_heads
    bias: bool = False
    dropout: float = 0.0
    kernel_init: nn.initializers.Initializer = nn.initializers.normal(0.02)
    out_init: nn.initializers.Initializer = nn.initializers.normal(0.02)
    out_bias: bool | None = None  # of the output; None: as `bias`

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        mask: Bool[Array, "..."] | Mask | None = None,
        rotary: Float[Array, "T _"] | Float[Array, "B T _"] | None = None,
        cache: Cache | None = None,
        index: Int[Array, ""] | Int[Array, " B"] | int = 0,
        *,
        train: bool = False,
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        """The T new entries are written into the cache at `index`, and all S attended to."""
        B, T, D = x.shape
        N = self.kv_heads or self.num_heads
        G, K = self.num_heads // N, D // self.num_heads
        dense = partial(nn.Dense, use_bias=self.bias, dot_general=flat_dot)
        qkv = dense(N * (G + 2) * K, kernel_init=self.kernel_init, name="qkv")(x)
        qkv = qkv.reshape(B, T, N, G + 2, K)
        q, k, v = qkv[..., :G, :], qkv[..., G, :], qkv[..., G + 1, :]
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        if cache is not None:
            cache = {n: _write(cache[n], new.swapaxes(1, 2), index) for n, new in (("k", k), ("v", v))}
            k, v = (cache[n].swapaxes(1, 2) for n in "kv")
        drop = nn.Dropout(self.dropout, deterministic=False) if self.dropout and train else None
        y = _attend(self, q, k, v, mask, drop).reshape(B, T, D)
        out_bias = self.bias if self.out_bias is None else self.out_bias
        return dense(D, use_bias=out_bias, kernel_init=self.out_init, name="out")(y), cache


class CrossAttention(nn.Module):
    """Attention of one sequence to another, whose keys and values `project` computes once for all calls.

    The columns of `q/kernel` [D, D] are ordered by head; so are those of `kv/kernel` [D, H 2 K], a head's key, then its value.
    """

    num_heads: int
    width: int  # D
    bias: bool = False
    dropout: float = 0.0
    kernel_init: nn.initializers.Initializer = nn.initializers.normal(0.02)
    out_init: nn.initializers.Initializer = nn.initializers.normal(0.02)

    def setup(self):
        dense = partial(nn.Dense, use_bias=self.bias, dot_general=flat_dot)
        self.q = dense(self.width, kernel_init=self.kernel_init)
        self.kv = dense(2 * self.width, kernel_init=self.kernel_init)
        self.out = dense(self.width, kernel_init=self.out_init)
        self.drop = nn.Dropout(self.dropout)

    def project(self, memory: Float[Array, "B S D"]) -> Memory:
        """The sequence to attend to -> its keys and values, {"k", "v": f[B, S, H, K]}."""
        kv = self.kv(memory).reshape(*memory.shape[:2], self.num_heads, 2, -1)
        return {"k": kv[..., 0, :], "v": kv[..., 1, :]}

    def __call__(
        self,
        x: Float[Array, "B T D"],
        memory: Memory,
        mask: Bool[Array, "..."] | Mask | None = None,
        *,
        train: bool = False,
        seen: Callable[[Float32[Array, "B H 1 T S"]], Any] | None = None,
    ) -> Float[Array, "B T D"]:
        """`memory` is the result of `project`. `mask` broadcasts against [B, H, 1, T, S]. `seen` is called with the weights."""
        q = self.q(x).reshape(*x.shape[:2], self.num_heads, 1, -1)
        drop = partial(self.drop, deterministic=False) if self.dropout and train else None
        y = _attend(self, q, memory["k"], memory["v"], mask, drop, seen)
        return self.out(y.reshape(x.shape))


def _attend(module, q, k, v, mask, drop, seen=None):
    """`attend`, or cuDNN's kernels if they apply and the weights need neither dropout (`drop`) nor recording (`seen`).

    The weights f32[B, N, G, T, S] are sown if the caller makes "intermediates" mutable.
    """
    recorded = seen is not None or module.is_mutable_collection("intermediates")
    if drop is None and not recorded and flash.fits(q, k, mask):
        return flash.attend(q, k, v, mask)

    def record(weights):
        module.sow("intermediates", "weights", weights)
        if seen is not None:
            seen(weights)
        return weights if drop is None else drop(weights)

    return attend(q, k, v, mask, record)


def _write(
    cache: Float[Array, "B N S K"], new: Float[Array, "B N T K"], index: Int[Array, ""] | Int[Array, " B"] | int
) -> Float[Array, "B N S K"]:
    write = partial(jax.lax.dynamic_update_slice_in_dim, axis=1)
    rows = jax.vmap(write, (0, 0, 0 if jnp.ndim(index) else None))
    return rows(cache, new.astype(cache.dtype), index)

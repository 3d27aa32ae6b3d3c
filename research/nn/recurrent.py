"""LSTM and GRU layers, in both directions, over rows of different lengths, with dropout that is one mask a sequence.

Sources: LSTM, Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; GRU, Cho et al. 2014 (1406.1078),
with the reset gate after the matrix product, as cuDNN and torch have it; variational dropout, Gal & Ghahramani 2016
(1512.05287), eq. 7, the masks tied over the gates. Parameters of a layer of H units over D features:

    input/kernel [D, G H]    input/bias [G H]    recurrent_kernel [H, G H]    recurrent_bias [H]    the last a GRU's alone

G blocks of columns: an LSTM's i, f, g, o, a GRU's r, z, n, in torch's order. The state is f32 whatever the dtype of x.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.core.mesh import pin
from research.nn.linear import flat_dot

Carry = dict[str, jax.Array]  # f32[B, H] each: "h", the output, and an LSTM's "c", its cell
Initializer: TypeAlias = nn.initializers.Initializer


def drop_sequence(rate: float, train: bool, name: str | None = None) -> nn.Dropout:
    """Dropout of x f[B, T, D] by one mask f[B, 1, D] a sequence."""
    return nn.Dropout(rate, broadcast_dims=(1,), deterministic=not train, name=name)


def drop_types(x: jax.Array, tokens: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Dropout of whole word types: embeddings x f[B, T, D] of tokens i32[B, T] -> f[B, T, D].

    A word's every occurrence in a row is kept, and scaled by 1 / (1 - rate), or none is (1512.05287, section 4.2). Rows
    draw for themselves. The draw is that of the first occurrence, so nothing of the vocabulary's size is made.
    """
    first = jnp.argmax(tokens[:, :, None] == tokens[:, None, :], axis=-1)
    kept = jax.random.bernoulli(key, 1 - rate, tokens.shape)
    kept = jnp.take_along_axis(kept, first, axis=1)
    return jnp.where(kept[..., None], x / (1 - rate), 0)


class Recurrent(nn.Module):
    """What LSTM and GRU share: x f[B, T, D], an initial state -> outputs f[B, T, H], the final state."""

    width: int  # H
    dropout: float = 0.0  # of the inputs, one mask a sequence
    recurrent_dropout: float = 0.0  # of the state on its way to the gates, one mask a sequence
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    recurrent_init: Initializer = nn.initializers.orthogonal()
    bias_init: Initializer = nn.initializers.zeros
    unroll: int = 1  # time steps a turn of the loop

    gates: ClassVar[int]  # G
    parts: ClassVar[tuple[str, ...]]  # of the state

    def cell(self) -> Callable[[jax.Array, jax.Array, Carry], Carry]:
        """(inputs' share, state's share of the gates f32[B, G H], state) -> state; may own parameters."""
        raise AttributeError(f"{type(self).__name__} has no cell: use LSTM or GRU")

    def input_bias_init(self) -> Initializer:
        return self.bias_init

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        carry: Carry | None = None,
        lengths: jax.Array | None = None,
        *,
        reverse: bool = False,
        train: bool = False,
    ) -> tuple[jax.Array, Carry]:
        """Runs over time, or with `reverse` from each row's last token to its first.

        `lengths` i32[B] says how many tokens a row has: beyond them outputs are 0 and the state stands still, so that the
        final state is that of the row's own last token (its first, in reverse). `carry` is 0 where it is not given.
        Dropout, where there is any, needs `train=True` and `rngs={"dropout": key}`.
        """
        B, T, _ = x.shape
        shares = self.gates * self.width
        x = drop_sequence(self.dropout, train)(x)
        dense = partial(nn.Dense, kernel_init=self.kernel_init, bias_init=self.input_bias_init(), dot_general=flat_dot)
        projected = dense(shares, name="input")(x)  # of all T at once: the loop is left with the state's share
        kernel = self.param("recurrent_kernel", self.recurrent_init, (self.width, shares))
        cell, mask = self.cell(), None
        if train and self.recurrent_dropout:
            ones = jnp.ones((B, self.width))
            mask = nn.Dropout(self.recurrent_dropout, deterministic=False, name="recurrent_dropout")(ones)

        def step(carry: Carry, inputs: Any) -> tuple[Carry, jax.Array]:
            x, inside = inputs
            h = carry["h"] if mask is None else carry["h"] * mask
            share = jnp.dot(h.astype(kernel.dtype), kernel, preferred_element_type=jnp.float32)
            new = cell(x.astype(jnp.float32), share, carry)
            if inside is None:
                return new, new["h"].astype(x.dtype)
            new = jax.tree.map(lambda a, b: jnp.where(inside[:, None], a, b), new, carry)
            return new, jnp.where(inside[:, None], new["h"], 0).astype(x.dtype)

        inside = None if lengths is None else jnp.arange(T)[:, None] < lengths
        start = jax.tree.map(pin, self.initial_carry(B) if carry is None else carry)
        inputs = (projected.swapaxes(0, 1), inside)
        carry, outputs = jax.lax.scan(step, start, inputs, reverse=reverse, unroll=self.unroll)
        return pin(outputs.swapaxes(0, 1)), carry

    @nn.nowrap
    def initial_carry(self, batch: int) -> Carry:
        """The state of `batch` rows that have read nothing: zeros."""
        return {part: jnp.zeros((batch, self.width)) for part in self.parts}


class LSTM(Recurrent):
    """c = f c + i g, h = o tanh(c), with i, f, o sigmoids and g a tanh of their shares of the gates."""

    forget_bias: float = 0.0  # added to f's bias at the start; 1 remembers from the start (Jozefowicz et al. 2015)
    gates, parts = 4, ("c", "h")

    def cell(self):
        def lstm(x: jax.Array, share: jax.Array, carry: Carry) -> Carry:
            i, f, g, o = jnp.split(x + share, 4, axis=-1)
            c = nn.sigmoid(f) * carry["c"] + nn.sigmoid(i) * nn.tanh(g)
            return {"c": c, "h": nn.sigmoid(o) * nn.tanh(c)}

        return lstm

    def input_bias_init(self):
        def init(key, shape, dtype):
            return self.bias_init(key, shape, dtype).at[self.width : 2 * self.width].add(self.forget_bias)

        return init


class GRU(Recurrent):
    """n = tanh(x's share + r (h's share + recurrent_bias)), h = (1 - z) n + z h, with r and z sigmoids."""

    gates, parts = 3, ("h",)

    def cell(self):
        bias = self.param("recurrent_bias", self.bias_init, (self.width,))

        def gru(x: jax.Array, share: jax.Array, carry: Carry) -> Carry:
            rz, n = jnp.split(x, [2 * self.width], axis=-1)
            share, share_n = jnp.split(share, [2 * self.width], axis=-1)
            r, z = jnp.split(nn.sigmoid(rz + share), 2, axis=-1)
            n = nn.tanh(n + r * (share_n + bias))
            return {"h": (1 - z) * n + z * carry["h"]}

        return gru


class Bidirectional(nn.Module):
    """Two layers, one a direction: x f[B, T, D] -> outputs f[B, T, 2 H], (the forward's, the backward's final state).

    The backward one starts at each row's own last token: `lengths` i32[B] as `Recurrent` has them.
    """

    layer: Callable[..., Recurrent]  # partial(LSTM, width, ...): wants a name

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        carry: tuple[Carry, Carry] | None = None,
        lengths: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, tuple[Carry, Carry]]:
        ahead, back = carry or (None, None)
        forward, ahead = self.layer(name="forward")(x, ahead, lengths, train=train)
        backward, back = self.layer(name="backward")(x, back, lengths, reverse=True, train=train)
        return jnp.concatenate([forward, backward], axis=-1), (ahead, back)

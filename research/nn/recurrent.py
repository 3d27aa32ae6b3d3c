"""LSTM and GRU layers, in both directions, over rows of different lengths, with one dropout mask per sequence.

Sources: LSTM, Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; GRU, Cho et al. 2014 (1406.1078),
with the reset gate after the matrix product, as cuDNN and torch have it; variational dropout, Gal & Ghahramani 2016
(1512.05287), eq. 7, the masks tied over the gates. Parameters of a layer of H units over D features:

    input/kernel [D, G H]    input/bias [G H]    recurrent_kernel [H, G H]    recurrent_bias [H]    (the last: GRU only)

G blocks of columns: an LSTM's i, f, g, o, a GRU's r, z, n, in torch's order. The state is f32 whatever the dtype of x.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, Int, PRNGKeyArray

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.nn.linear import flat_dot

Carry = dict[str, Float32[Array, "B H"]]  # "h", the output, and an LSTM's "c", its cell
Initializer: TypeAlias = nn.initializers.Initializer


def drop_sequence(rate: float, train: bool, name: str | None = None) -> nn.Dropout:
    """Dropout of x f[B, T, D] with one mask f[B, 1, D] per sequence."""
    return nn.Dropout(rate, broadcast_dims=(1,), deterministic=not train, name=name)


def drop_types(
    x: Float[Array, "B T D"], tokens: Int[Array, "B T"], rate: float, key: PRNGKeyArray
) -> Float[Array, "B T D"]:
    """Dropout of word types: of the embeddings x of tokens.

    Either all occurrences of a word in a row are kept, scaled by 1 / (1 - rate), or none (1512.05287, section 4.2). Rows
    are independent. All take the draw of the first occurrence, so no array has the vocabulary's size.
    """
    first = jnp.argmax(tokens[:, :, None] == tokens[:, None, :], axis=-1)
    keep = jax.random.bernoulli(key, 1 - rate, tokens.shape)
    keep = jnp.take_along_axis(keep, first, axis=1)
    return jnp.where(keep[..., None], x / (1 - rate), 0)


# (inputs' share of the gates f32[B, G H], the state's share, recurrent_bias, state) -> state
Cell: TypeAlias = Callable[[Array, Array, Array | None, Carry], Carry]


def _lstm(x: Float32[Array, "B GH"], share: Float32[Array, "B GH"], bias: None, carry: Carry) -> Carry:
    i, f, g, o = jnp.split(x + share, 4, axis=-1)
    c = nn.sigmoid(f) * carry["c"] + nn.sigmoid(i) * nn.tanh(g)
    return {"c": c, "h": nn.sigmoid(o) * nn.tanh(c)}


def _gru(x: Float32[Array, "B GH"], share: Float32[Array, "B GH"], bias: Float[Array, " H"], carry: Carry) -> Carry:
    at = [2 * carry["h"].shape[-1]]
    (rz, n), (share_rz, share_n) = jnp.split(x, at, axis=-1), jnp.split(share, at, axis=-1)
    r, z = jnp.split(nn.sigmoid(rz + share_rz), 2, axis=-1)
    n = nn.tanh(n + r * (share_n + bias))
    return {"h": (1 - z) * n + z * carry["h"]}


class Kind(NamedTuple):
    """What distinguishes an LSTM from a GRU."""

    cell: Cell
    parts: tuple[str, ...]  # of the state
    gates: int  # G
    bias: bool  # whether there is a recurrent_bias


class LoopOptions(NamedTuple):
    """The static arguments of the loop over time."""

    cell: Cell
    reverse: bool


def _loop(options, kernel, bias, projected, added, carry, mask, inside):
    """-> (final state, outputs [T, B, H]), and the kernel's inputs f[T, B, H]. `added` is added to the state's share."""

    def step(carry, inputs):
        x, added, inside = inputs
        h = carry["h"] if mask is None else carry["h"] * mask
        states = h.astype(kernel.dtype)
        share = jnp.dot(states, kernel, preferred_element_type=jnp.float32)
        share = share if added is None else share + added
        new = options.cell(x.astype(jnp.float32), share, bias, carry)
        out = new["h"]
        if inside is not None:
            out = jnp.where(inside[:, None], out, 0)
            new = jax.tree.map(lambda a, b: jnp.where(inside[:, None], a, b), new, carry)
        return new, (out.astype(x.dtype), states)

    inputs = (projected, added, inside)
    carry, (outputs, states) = jax.lax.scan(step, carry, inputs, reverse=options.reverse)
    return (carry, outputs), states


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _over_time(options, kernel, bias, projected, carry, mask, inside):
    """The loop, whose gradient in the kernel is one product over all T, not a sum of T small ones: a third less time a step."""
    return _loop(options, kernel, bias, projected, None, carry, mask, inside)[0]


def _over_time_forward(options, kernel, bias, projected, carry, mask, inside):
    def run(bias, projected, added, carry, mask):
        return _loop(options, kernel, bias, projected, added, carry, mask, inside)

    zeros = jnp.zeros(projected.shape, jnp.float32)  # their gradient is that of the state's share
    out, pullback, states = jax.vjp(run, bias, projected, zeros, carry, mask, has_aux=True)
    return out, (pullback, states)


def _over_time_backward(options, saved, cotangent):
    pullback, states = saved
    bias, projected, share, carry, mask = pullback(cotangent)
    kernel = jnp.einsum("tbh,tbg->hg", states, share.astype(states.dtype), preferred_element_type=jnp.float32)
    return kernel.astype(states.dtype), bias, projected, carry, mask, None


_over_time.defvjp(_over_time_forward, _over_time_backward)


class Recurrent(nn.Module):
    """Base of LSTM and GRU: x and an initial state -> outputs, the final state."""

    width: int  # H
    dropout: float = 0.0  # of the inputs, one mask per sequence
    recurrent_dropout: float = 0.0  # of the state that the gates read, one mask per sequence
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    recurrent_init: Initializer = nn.initializers.orthogonal()
    bias_init: Initializer = nn.initializers.zeros

    kind: ClassVar[Kind]

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        carry: Carry | None = None,
        lengths: Int[Array, " B"] | None = None,
        *,
        reverse: bool = False,
        train: bool = False,
    ) -> tuple[Float[Array, "B T H"], Carry]:
        """Runs over time, or with `reverse` from each row's last token to its first.

        `lengths` are the rows': beyond them outputs are 0 and the state does not change, so the final state
        is that of the row's last token (its first, in reverse). `carry` None is all zeros. Dropout needs `train=True` and
        `rngs={"dropout": key}`.
        """
        B, T, _ = x.shape
        x = drop_sequence(self.dropout, train)(x)
        dense = partial(nn.Dense, kernel_init=self.kernel_init, bias_init=self.input_bias_init(), dot_general=flat_dot)
        projected = dense(self.kind.gates * self.width, name="input")(
            x
        )  # all T at once: the loop adds the state's share
        kernel = self.param("recurrent_kernel", self.recurrent_init, (self.width, self.kind.gates * self.width))
        bias = self.param("recurrent_bias", self.bias_init, (self.width,)) if self.kind.bias else None
        mask = None
        if train and self.recurrent_dropout:
            ones = jnp.ones((B, self.width))
            mask = nn.Dropout(self.recurrent_dropout, deterministic=False, name="recurrent_dropout")(ones)
        inside = None if lengths is None else jnp.arange(T)[:, None] < lengths
        carry = jax.tree.map(shard_activations, self.initial_carry(B) if carry is None else carry)
        options = LoopOptions(self.kind.cell, reverse)
        carry, outputs = _over_time(options, kernel, bias, projected.swapaxes(0, 1), carry, mask, inside)
        return shard_activations(outputs.swapaxes(0, 1)), carry

    def input_bias_init(self) -> Initializer:
        return self.bias_init

    @nn.nowrap
    def initial_carry(self, batch: int) -> Carry:
        """The initial state of `batch` rows: zeros."""
        return {part: jnp.zeros((batch, self.width)) for part in self.kind.parts}


class LSTM(Recurrent):
    """c = f c + i g, h = o tanh(c), with i, f, o sigmoids and g a tanh of their blocks of the gates."""

    forget_bias: float = 0.0  # added to f's bias at the start; 1 remembers from the start (Jozefowicz et al. 2015)
    kind = Kind(_lstm, ("c", "h"), 4, bias=False)

    def input_bias_init(self):
        def init(key, shape, dtype):
            return self.bias_init(key, shape, dtype).at[self.width : 2 * self.width].add(self.forget_bias)

        return init


class GRU(Recurrent):
    """n = tanh(x's share + r (h's share + recurrent_bias)), h = (1 - z) n + z h, with r and z sigmoids."""

    kind = Kind(_gru, ("h",), 3, bias=True)


class Bidirectional(nn.Module):
    """Two layers, one per direction: x -> outputs f[B, T, 2 H], (forward, backward final state).

    The backward one starts at each row's last token: `lengths` as `Recurrent` has them.
    """

    layer: Callable[..., Recurrent]  # partial(LSTM, width, ...), called with a name

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        carry: tuple[Carry, Carry] | None = None,
        lengths: Int[Array, " B"] | None = None,
        *,
        train: bool = False,
    ) -> tuple[Float[Array, "B T _"], tuple[Carry, Carry]]:
        ahead, back = carry or (None, None)
        forward, ahead = self.layer(name="forward")(x, ahead, lengths, train=train)
        backward, back = self.layer(name="backward")(x, back, lengths, reverse=True, train=train)
        return jnp.concatenate([forward, backward], axis=-1), (ahead, back)

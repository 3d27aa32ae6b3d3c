"""A language model as three programs of fixed shapes, for slots that requests come to and leave while others stay.

Every request has one of S slots, a row of one cache. The shapes never change, so there is one program to read a chunk of a
prompt and one to read a token in every slot, whatever the requests, and a row's logits are computed from that row alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.generation import decoding
from research.models.text.gpt import GPT
from research.models.text.recurrent_lm import RecurrentLM
from research.util.errors import UserError

CHUNK = 64  # tokens of a prompt read at a time
RECURRENT_LENGTH = 4096  # tokens of a request to a model that has no limit of its own


class Decoder(NamedTuple):
    """A model's programs, pure functions of arrays. S slots of L tokens; V tokens in the vocabulary.

    vocab_size  V
    max_length  the most tokens that a slot may hold
    chunk       C, the tokens that `prefill` takes
    rewinds     whether `prefill` may begin at a token that the slot has already read
    new_cache   (S, L) -> an empty cache
    prefill     (cache, slot i32[], tokens i32[C], start i32[], count i32[]) -> (logits f32[V], cache): reads the first `count`
                tokens into the slot, as its tokens from number `start` on, and predicts the one after them. A `start` of 0
                clears the slot. The other slots stay as they are
    decode      (cache, tokens i32[S], active bool[S]) -> (logits f32[S, V], cache): reads a token in each active slot and
                predicts the next. The tokens and logits of the others mean nothing, and what those slots hold stays

    Both may use the memory of the cache that they are given for the one that they return.
    """

    vocab_size: int
    max_length: int
    chunk: int
    rewinds: bool
    new_cache: Callable[[int, int], Any]
    prefill: Callable[..., tuple[jax.Array, Any]]
    decode: Callable[..., tuple[jax.Array, Any]]


def generates(model: Any) -> bool:
    """Whether a model writes text token by token."""
    return isinstance(model, RecurrentLM) or (isinstance(model, GPT) and model.head)


def from_model(model: Any, variables: dict, chunk: int = CHUNK) -> Decoder:
    """The decoder of a model with a cache, as research/generation/decoding.py describes one, and its variables.

    Raises UserError unless 1 <= chunk.

    >>> from research.models.text.gpt import GPT
    >>> model = GPT(vocab_size=5, max_length=8, num_layers=1, num_heads=1, width=4)
    >>> decoder = from_model(model, model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32)), chunk=4)
    >>> logits, cache = decoder.prefill(decoder.new_cache(2, 8), 1, jnp.array([1, 2, 3, 0]), 0, 3)
    >>> logits.shape, cache["index"].tolist()
    ((5,), [0, 3])
    """
    if chunk < 1:
        raise UserError(f"chunk={chunk}: want at least 1 token")
    rewinds = decoding.rewinds(model)
    length = model.max_length if rewinds else RECURRENT_LENGTH
    return Decoder(
        vocab_size=model.vocab_size,
        max_length=length,
        chunk=min(chunk, length),
        rewinds=rewinds,
        new_cache=partial(_new_cache, model, variables),
        prefill=partial(_prefill, model, variables),
        decode=partial(_decode, model, variables),
    )


def _new_cache(model: Any, variables: dict, slots: int, length: int) -> dict:
    cache = decoding.new_cache(model, variables, slots, length)
    return {**cache, "index": jnp.zeros(slots, jnp.int32)}


def _slot_axes(model: Any) -> Any:
    """The axis of each of the cache's arrays that counts rows."""
    return differing_axes(*(jax.eval_shape(partial(model.init_cache, rows, 1))["layers"] for rows in (1, 2)))


def differing_axes(one: Any, other: Any) -> Any:
    """The axis in which each array of a tree has another size than that of the other tree."""
    differs = lambda a, b: int(np.flatnonzero(np.array(a.shape) != np.array(b.shape))[0])  # noqa: E731
    return jax.tree.map(differs, one, other)


@partial(jax.jit, static_argnames="model", donate_argnames="cache")
def _prefill(model, variables, cache, slot, tokens, start, count):
    axes = _slot_axes(model)
    row = jax.tree.map(lambda x, axis: jax.lax.dynamic_slice_in_dim(x, slot, 1, axis), cache["layers"], axes)
    # Cleared for a new request: what the last one left may not be finite.
    row = jax.tree.map(lambda x: jnp.where(start == 0, jnp.zeros_like(x), x), row)
    # Else XLA reads the cache while it writes it, and copies all of it for that.
    row = jax.lax.optimization_barrier(row)
    read = _read_at_once if decoding.rewinds(model) else _read_one_by_one
    logits, row = read(model, variables, row, tokens, jnp.asarray(start), count)
    write = jax.lax.dynamic_update_slice_in_dim
    layers = jax.tree.map(lambda x, new, axis: write(x, new.astype(x.dtype), slot, axis), cache["layers"], row, axes)
    return logits, {"layers": layers, "index": cache["index"].at[slot].set(start + count)}


def _read_at_once(model, variables, row, tokens, start, count):
    """What is read beyond `count` lies after the slot's tokens: no later token attends to it before it is overwritten."""
    logits, after = model.apply(variables, tokens[None], cache={"layers": row, "index": start}, defer_logits=True)
    last = jax.lax.dynamic_slice_in_dim(logits.hidden, count - 1, 1, axis=1)
    return logits.replace(hidden=last).array()[0, 0], after["layers"]


def _read_one_by_one(model, variables, row, tokens, start, count):
    """For a state that cannot discard tokens: those from `count` on change nothing."""

    def step(carry, numbered):
        number, token = numbered
        _, layers = carry
        logits, after = model.apply(variables, token[None, None], cache={"layers": layers, "index": start})
        new = (logits[0, 0].astype(jnp.float32), after["layers"])
        return jax.tree.map(lambda a, b: jnp.where(number < count, a, b), new, carry), None

    empty = jnp.zeros(model.vocab_size, jnp.float32)
    return jax.lax.scan(step, (empty, row), (jnp.arange(tokens.shape[0]), tokens))[0]


@partial(jax.jit, static_argnames="model", donate_argnames="cache")
def _decode(model, variables, cache, tokens, active):
    # A slot that is full and not active writes over its own last token: a position beyond the last would not be finite.
    index = jnp.minimum(cache["index"], model.max_length - 1)
    logits, after = model.apply(variables, tokens[:, None], cache={**cache, "index": index})
    layers = after["layers"]
    if not decoding.rewinds(model):
        layers = jax.tree.map(
            lambda new, old, axis: jnp.where(jnp.expand_dims(active, _others(new.ndim, axis)), new, old),
            layers, cache["layers"], _slot_axes(model),
        )  # fmt: skip
    return logits[:, 0], {"layers": layers, "index": jnp.where(active, index + 1, cache["index"])}


def _others(ndim: int, axis: int) -> list[int]:
    return [i for i in range(ndim) if i != axis]

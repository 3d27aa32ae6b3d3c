"""Ancestral sampling over any step function, as `beam.search` takes one: the tokens of a row are drawn one after another."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def sample(
    step: Callable[[jax.Array, Any], tuple[jax.Array, Any]],
    cache: Any,
    first: jax.Array,
    keys: jax.Array | None,
    *,
    length: int,
    eos: int,
    temperature: float = 1.0,
) -> jax.Array:
    """The `length` tokens after `first` i32[B] under `step`: i32[B, length], filled up with `eos` after the first `eos`.

    step   (tokens i32[B], cache) -> logits f32[B, V] of the next token, cache
    cache  after all tokens before `first`
    keys   key[B], of the rows, so that a row is the same in any batch; None takes the most probable tokens
    """

    def advance(carry: tuple, t: jax.Array) -> tuple[tuple, jax.Array]:
        token, cache, alive = carry
        logits, cache = step(token, cache)
        if keys is None:
            drawn = logits.argmax(-1)
        else:
            scaled = logits.astype(jnp.float32) / temperature
            drawn = jax.vmap(lambda key, row: jax.random.categorical(jax.random.fold_in(key, t), row))(keys, scaled)
        token = jnp.where(alive, drawn, eos).astype(jnp.int32)
        return (token, cache, alive & (token != eos)), token

    start = (first, cache, jnp.ones(first.shape[0], bool))
    return jax.lax.scan(advance, start, jnp.arange(length))[1].T

"""Samples with their log-probabilities, drawn within a jitted step: what a policy learns from."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.generation import decoding


class Rollout(NamedTuple):
    """Completions of up to L tokens. After its end token a row is filled up with end tokens."""

    tokens: jax.Array  # i32[B, L]
    mask: jax.Array  # f32[B, L], 1 up to the end token, which counts
    log_probs: jax.Array  # f32[B, L], of the tokens at the temperature that they were drawn at; 0 where the mask is


def rollout(
    model: Any, variables: dict, prompt: jax.Array, lengths: jax.Array, keys: jax.Array | None, *, length: int, end: int,
    temperature: float = 1.0,
) -> Rollout:  # fmt: skip
    """Completions of `prompt` i32[B, P], of which row i has `lengths[i]` tokens, at least one.

    `keys` key[B] are the rows', so that a row is the same in any batch; None takes the most probable tokens. The prompt and
    the completion fit into the model's `max_length`.
    """
    logits, cache = decoding.read(model, variables, prompt, lengths, prompt.shape[1] + length - 1)

    def step(carry: tuple, t: jax.Array) -> tuple[tuple, tuple]:
        logits, cache, alive = carry
        log_p = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
        token = log_p.argmax(-1) if keys is None else _draw(keys, t, log_p)
        token = jnp.where(alive, token, end).astype(jnp.int32)
        own = jnp.take_along_axis(log_p, token[:, None], 1)[:, 0]
        drawn = (token, alive.astype(jnp.float32), jnp.where(alive, own, 0))
        logits, cache = model.apply(variables, token[:, None], cache=cache)
        return (logits[:, 0], cache, alive & (token != end)), drawn

    start = (logits, cache, jnp.ones(len(prompt), bool))
    _, drawn = jax.lax.scan(step, start, jnp.arange(length))
    return Rollout(*(x.T for x in drawn))


def _draw(keys: jax.Array, t: jax.Array, log_p: jax.Array) -> jax.Array:
    return jax.vmap(lambda key, row: jax.random.categorical(jax.random.fold_in(key, t), row))(keys, log_p)


def joined(prompt: jax.Array, lengths: jax.Array, completion: jax.Array) -> jax.Array:
    """Each row's prompt [B, P], of `lengths` tokens, and then its completion [B, L]: [B, P + L], 0 after it."""
    (_, P), L = prompt.shape, completion.shape[1]
    at = jnp.arange(P + L) - lengths[:, None]  # a place in the completion
    rows = jnp.take_along_axis(completion, jnp.clip(at, 0, L - 1), 1)
    before = jnp.pad(prompt, ((0, 0), (0, L)))
    return jnp.where(at < 0, before, jnp.where(at < L, rows, 0))

"""One token for every slot, each with its own key and settings: arrays of one shape, so that no request compiles anything.

The processors, their order and the draw are those of research/generation/decoding.py: given equal logits, a slot draws the
tokens that `generate` draws with the same key and options.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.generation import decoding

TOP = 20  # the most alternatives whose log-probabilities can be asked for


class Settings(NamedTuple):
    """Of one slot, or of S of them with a leading axis. The defaults change no logits."""

    key: jax.Array  # the row's
    temperature: Any = 1.0  # f32; 0: greedy
    top_k: Any = 2**31 - 1  # i32
    top_p: Any = 1.0  # f32, as the next two
    min_p: Any = 0.0
    repetition_penalty: Any = 1.0


class Slots(NamedTuple):
    """What drawing needs of S slots."""

    settings: Settings
    token: jax.Array  # i32[S], the last one drawn
    held: jax.Array  # i32[S], tokens of the prompt and drawn
    seen: jax.Array  # bool[S, V], whether the token is among them


class Drawn(NamedTuple):
    """A token of each slot, with log-probabilities under the model's own distribution, before any processor."""

    token: jax.Array  # i32[S]
    logprob: jax.Array  # f32[S]
    top: jax.Array  # i32[S, TOP], the most probable tokens; fewer if the vocabulary is smaller
    top_logprobs: jax.Array  # f32[S, TOP]


def empty(slots: int, vocab_size: int) -> Slots:
    """Slots that nobody has."""
    one = _typed(Settings(jax.random.key(0)))
    settings = jax.tree.map(lambda x: jnp.broadcast_to(x, (slots, *x.shape)), one)
    zeros = jnp.zeros(slots, jnp.int32)
    return Slots(settings, zeros, jnp.array(zeros), jnp.zeros((slots, vocab_size), bool))


def enter(slots: Slots, slot: int, settings: Settings, held: int, seen: jax.Array) -> Slots:
    """Gives a slot to a request with a prompt of `held` tokens, which are those `seen` bool[V]."""
    return _enter(slots, slot, _typed(settings), held, seen)


@partial(jax.jit, donate_argnames="slots")
def _enter(slots, slot, settings, held, seen):
    new = Slots(settings, jnp.int32(0), held, seen)
    return jax.tree.map(lambda x, value: x.at[slot].set(value), slots, new)


@jax.jit
def with_row(rows: jax.Array, slot: jax.Array, row: jax.Array) -> jax.Array:
    """[S, V] with a row [V] of a slot's own: the logits that a finished prompt gave, or the tokens that a constraint allows."""
    return rows.at[slot].set(row)


@partial(jax.jit, donate_argnames="slots")
def draw(slots: Slots, logits: jax.Array, allowed: jax.Array, drawing: jax.Array) -> tuple[Drawn, Slots]:
    """Draws a token from logits f32[S, V] in each slot that is `drawing` bool[S], among those `allowed` bool[S, V]."""
    settings, rows = slots.settings, jnp.arange(len(logits))
    token = _choose(slots, jnp.where(allowed, _penalised(slots, logits), -jnp.inf))
    logprobs = jax.nn.log_softmax(logits)
    top_logprobs, top = jax.lax.top_k(logprobs, min(TOP, logits.shape[-1]))
    token = jnp.where(drawing, token, slots.token)
    drawn = Drawn(token, logprobs[rows, token], top, top_logprobs)
    seen = slots.seen.at[rows, token].max(drawing)
    return drawn, Slots(settings, token, slots.held + drawing, seen)


def _penalised(slots: Slots, logits: jax.Array) -> jax.Array:
    return decoding.repetition_penalty(logits, slots.seen, slots.settings.repetition_penalty[:, None])


def _choose(slots: Slots, logits: jax.Array) -> jax.Array:
    """i32[S]: the top-1 token of a slot of temperature 0, else a draw."""
    key, temperature, k, p, least, _ = slots.settings
    scaled = logits / jnp.where(temperature > 0, temperature, 1.0)[:, None]
    for processor, value, used in (
        (decoding.top_k, k, k < logits.shape[-1]),
        (decoding.top_p, p, p < 1),
        (decoding.min_p, least, least > 0),
    ):  # a sort of the vocabulary that nobody asked for would take longer than the rest
        scaled = jax.lax.cond(used.any(), jax.vmap(processor), lambda x, _: x, scaled, value)
    drawn = jax.vmap(jax.random.categorical)(decoding.fold(key, slots.held), scaled)
    return jnp.where(temperature > 0, drawn, logits.argmax(-1)).astype(jnp.int32)


def _typed(settings: Settings) -> Settings:
    key, temperature, k, *shares = settings
    return Settings(key, jnp.float32(temperature), jnp.int32(k), *map(jnp.float32, shares))

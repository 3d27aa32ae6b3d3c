"""Speculative decoding: a small model drafts tokens, the large one reads them all at once and keeps a prefix.

Leviathan et al. 2023 (2211.17192), algorithm 1; Chen et al. 2023 (2302.01318). A drafted token x is kept with
probability min(1, p(x) / q(x)), and in the place of the first that is not, one is drawn from max(0, p - q): what
comes out is distributed as the large model's own samples, and greedily it is the same text. p and q are the
models' probabilities after all the processors of `Sampling`.

The window does not slide here: where the cache is rebuilt the large model reads half a window anew, and no chunk
of drafted tokens may stand across that. Prompt, `length` and draft fit into `max_length`, or it is an error.
"""

from collections.abc import Generator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.generation import decoding
from research.generation.decoding import State
from research.util.errors import UserError

PURPOSES = ("draft", "accept", "rest")  # of the randomness that a token has, apart


class Drafted(NamedTuple):
    """The text, and how the draft did: `accepted.sum() / tried.sum()` is the acceptance rate."""

    tokens: jax.Array  # i32[B, T + length], as decoding.generate gives them
    tried: jax.Array  # i32[B], drafted tokens that were accepted or rejected: not those behind a rejected one
    accepted: jax.Array  # i32[B]
    rounds: jax.Array  # i32[B], times that the large model was run, the prompt apart


def verify(p: jax.Array, q: jax.Array, drafted: jax.Array, uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How many drafted tokens are kept i32[B], and the weights f32[B, V] that the next is drawn by.

    p f32[B, A + 1, V] are the large model's probabilities at the A drafted tokens and after them, q f32[B, A, V] the
    draft's, drafted i32[B, A] its samples, uniform f32[B, A] in [0, 1). The weights need not sum to 1.
    """
    at = drafted[..., None]
    kept = uniform * jnp.take_along_axis(q, at, 2)[..., 0] < jnp.take_along_axis(p[:, :-1], at, 2)[..., 0]
    accepted = jnp.cumprod(kept, axis=1, dtype=jnp.int32).sum(1)
    rest = jnp.maximum(p - jnp.pad(q, ((0, 0), (0, 1), (0, 0))), 0)
    rest, p = (jnp.take_along_axis(x, accepted[:, None, None], 1)[:, 0] for x in (rest, p))
    return accepted, jnp.where(rest.sum(-1, keepdims=True) > 0, rest, p)  # 0 by rounding: then p and q are equal


def generate(
    model: Any, variables: dict, draft: Any, draft_variables: dict, prompt: Any, key: jax.Array, *, length: int,
    ahead: int = 4, lengths: Any = None, **sampling: Any,
) -> Drafted:  # fmt: skip
    """As `decoding.generate` by `model`, in distribution, with `ahead` tokens at a time drafted by `draft`.

    A row's tokens depend on its key and on `ahead`, not on the rows beside it. The models' tokens must be the same.
    """
    prompt, options = _check(model, draft, prompt, key, length, lengths, ahead, sampling)
    carry = _start(model, variables, draft, draft_variables, prompt, options, length, ahead)
    state, counts, *_ = _advance(model, variables, draft, draft_variables, *carry, options, length, ahead)
    return Drafted(state.tokens, *counts)


def stream(
    model: Any, variables: dict, draft: Any, draft_variables: dict, prompt: Any, key: jax.Array, *, length: int,
    ahead: int = 4, lengths: Any = None, block: int = 1, **sampling: Any,
) -> Generator[np.ndarray, None, Drafted]:  # fmt: skip
    """As `decoding.stream`: the tokens that `generate` adds, as they come, at least `block` of each row at a time.

    A generator, which returns what `generate` does.
    """
    prompt, options = _check(model, draft, prompt, key, length, lengths, ahead, sampling)
    columns = decoding.columns(
        lambda: _start(model, variables, draft, draft_variables, prompt, options, length, ahead),
        lambda carry, until: _advance(model, variables, draft, draft_variables, *carry, options, until, ahead),
        options,
        block,
    )

    def each() -> Generator[np.ndarray, None, Drafted]:
        state, counts, *_ = yield from columns
        return Drafted(state.tokens, *counts)

    return each()


def _check(model, draft, prompt, key, length, lengths, ahead, sampling) -> tuple[np.ndarray, dict]:
    if ahead < 1:
        raise UserError(f"ahead={ahead}: want at least 1 token to draft")
    if draft.vocab_size != model.vocab_size:
        raise UserError(f"the draft has {draft.vocab_size} tokens and the model {model.vocab_size}: want the same")
    for one in (model, draft):
        if not decoding.rewinds(one):
            raise UserError(
                f"{type(one).__name__} cannot forget a token that was not kept: no draft, and no model with one"
            )
    prompt, options = decoding.check(model, prompt, key, length, lengths, sampling)
    # A cache holds all but the last token, and what was drafted after it.
    size, limit = prompt.shape[1] + length - 1 + ahead, min(model.max_length, draft.max_length)
    if size > limit:
        raise UserError(
            f"a prompt of {prompt.shape[1]} tokens, length={length} and ahead={ahead} make {size}, and the models "
            f"read {limit}: shorten them, or do without a draft"
        )
    return prompt, options


@partial(jax.jit, static_argnames=("model", "draft", "length", "ahead"))
def _start(model, variables, draft, draft_variables, prompt, options, length, ahead):
    """Both models read the prompts, and the large one draws the first token of each."""
    state, cache = decoding.start(model, variables, prompt, options, length, ahead)
    _, draft_cache = decoding.read(
        draft, draft_variables, prompt, options["lengths"], prompt.shape[1] + length - 1 + ahead
    )
    counts = (jnp.zeros_like(state.drawn),) * 3
    return state, counts, cache, draft_cache


@partial(jax.jit, static_argnames=("model", "draft", "ahead"), donate_argnames=("cache", "draft_cache"))
def _advance(model, variables, draft, draft_variables, state, counts, cache, draft_cache, options, until, ahead):
    """Rounds of drafting and reading, until every row has `until` tokens or is done."""

    def going(carry):
        return ((carry[0].drawn < until) & ~carry[0].done).any()

    def one_round(carry):
        state, counts, cache, draft_cache = carry
        held = options["lengths"] + state.drawn
        at = held[:, None] + jnp.arange(ahead + 1)  # the places of the round's tokens
        keys = {name: _keys(options["keys"], at, i) for i, name in enumerate(PURPOSES)}

        guess, q, places, draft_cache = _draft(
            draft, draft_variables, state, draft_cache | {"index": held - 1}, options, keys["draft"], ahead
        )
        chunk = decoding.slices(guess, held - 1, ahead + 1)
        logits, cache = model.apply(variables, chunk, cache=cache | {"index": held - 1})
        p = jnp.stack([_chances(logits[:, j], guess, state, j, places[j], options) for j in range(ahead + 1)], 1)

        drafted = chunk[:, 1:]
        uniform = jax.vmap(jax.vmap(jax.random.uniform))(keys["accept"][:, :-1])
        accepted, rest = verify(p, q, drafted, uniform)
        last = jnp.take_along_axis(keys["rest"], accepted[:, None], 1)[:, 0]
        instead = jax.vmap(jax.random.categorical)(last, jnp.log(rest)).astype(jnp.int32)

        after, (tried, kept, rounds) = state, counts
        rounds += ~state.done & (state.drawn < options["length"])
        for j in range(ahead + 1):
            go = ~after.done & (after.drawn < options["length"]) & (j <= accepted)
            token = jnp.where(j < accepted, drafted[:, min(j, ahead - 1)], instead)
            after = decoding.append(after, token, go, options)
            tried, kept = tried + (go & (j < ahead)), kept + (go & (j < accepted))
        return after, (tried, kept, rounds), cache, draft_cache

    return jax.lax.while_loop(going, one_round, (state, counts, cache, draft_cache))


def _draft(draft, variables, state: State, cache, options, keys, ahead: int):
    """`ahead` tokens of the draft behind each row: rows with them, their q f32[B, A, V], the constraint's places before
    each and after the last, and a cache that holds them all: when all are kept, the next round begins behind them."""
    rows = jnp.arange(len(state.drawn))
    tokens = jnp.pad(state.tokens, ((0, 0), (0, ahead)))
    held, place, places, q = options["lengths"] + state.drawn, state.place, [state.place], []
    for j in range(ahead + 1):
        last = decoding.slices(tokens, held + j - 1, 1)
        logits, cache = draft.apply(variables, last, cache=cache)
        if j == ahead:
            break
        chances = _chances(logits[:, -1], tokens, state, j, place, options)
        token = jax.vmap(jax.random.categorical)(keys[:, j], jnp.log(chances)).astype(jnp.int32)
        tokens = tokens.at[rows, held + j].set(token)
        if "constraint" in options:
            place = options["constraint"].follow(place, token, options["length"] - state.drawn - 1 - j)
        places.append(place)
        q.append(chances)
    return tokens, jnp.stack(q, 1), places, cache


def _chances(logits, tokens, state: State, j: int, place, options) -> jax.Array:
    """Probabilities f32[B, V] of the j-th token of a round; greedy decoding has one of 1."""
    left = options["length"] - state.drawn - 1 - j
    logits = decoding.process(logits, tokens, options["lengths"] + state.drawn + j, place, left, options)
    if "temperature" not in options["settings"]:
        return jax.nn.one_hot(logits.argmax(-1), logits.shape[-1])
    return jax.nn.softmax(logits)


def _keys(keys, at, purpose: int):
    """key[B] and places i32[B, A] -> key[B, A], a row's and a place's own for each purpose.

    A place that was drafted in vain has the same randomness again: nothing that was kept depends on it.
    """
    own = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(keys, at)
    return jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (0, None))(own, purpose)

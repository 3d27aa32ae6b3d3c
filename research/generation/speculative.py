"""Speculative decoding: a small model drafts tokens, the large one scores them in one pass and accepts a prefix.

Leviathan et al. 2023 (2211.17192), algorithm 1; Chen et al. 2023 (2302.01318). A drafted token x is accepted with
probability min(1, p(x) / q(x)), and the first rejected one is replaced by a draw from max(0, p - q): samples are
distributed as the large model's own, and greedy decoding gives the same text. p and q are the models' probabilities
after all the processors of `Sampling`.

The window does not slide: when the cache is rebuilt the large model recomputes half a window, and a chunk of drafted
tokens cannot span that. Prompt, `length` and draft must fit into `max_length`; else UserError is raised.
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

PURPOSES = ("draft", "accept", "rest")  # of a token's independent keys


class Drafted(NamedTuple):
    """Generated tokens, and counts of the draft's: `accepted.sum() / tried.sum()` is the acceptance rate."""

    tokens: jax.Array  # i32[B, T + length], as decoding.generate gives them
    tried: jax.Array  # i32[B], drafted tokens that were accepted or rejected: not those after a rejected one
    accepted: jax.Array  # i32[B]
    rounds: jax.Array  # i32[B], runs of the large model, without the prompt's


def verify(p: jax.Array, q: jax.Array, drafted: jax.Array, uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The number of accepted tokens i32[B], and unnormalised probabilities f32[B, V] of the token after them.

    p f32[B, A + 1, V] are the large model's probabilities at the A drafted tokens and after them, q f32[B, A, V] the
    draft's, drafted i32[B, A] its samples, uniform f32[B, A] in [0, 1).

    >>> p, q = jnp.array([[[0.5, 0.5], [1.0, 0.0]]]), jnp.array([[[0.0, 1.0]]])
    >>> accepted, weights = verify(p, q, drafted=jnp.array([[1]]), uniform=jnp.array([[0.6]]))  # 0.6 > p / q: rejected
    >>> accepted.tolist(), weights.tolist()
    ([0], [[0.5, 0.0]])
    """
    at = drafted[..., None]
    accept = uniform * jnp.take_along_axis(q, at, 2)[..., 0] < jnp.take_along_axis(p[:, :-1], at, 2)[..., 0]
    accepted = jnp.cumprod(accept, axis=1, dtype=jnp.int32).sum(1)
    residual = jnp.maximum(p - jnp.pad(q, ((0, 0), (0, 1), (0, 0))), 0)
    residual, p = (jnp.take_along_axis(x, accepted[:, None, None], 1)[:, 0] for x in (residual, p))
    return accepted, jnp.where(residual.sum(-1, keepdims=True) > 0, residual, p)  # all 0: p and q are equal


def generate(
    model: Any, variables: dict, draft: Any, draft_variables: dict, prompt: Any, key: jax.Array, *, length: int,
    ahead: int = 4, lengths: Any = None, **sampling: Any,
) -> Drafted:  # fmt: skip
    """As `decoding.generate` by `model`, in distribution, with `ahead` tokens at a time drafted by `draft`.

    A row's tokens depend on its key and on `ahead`, not on other rows. Both models must have the same tokens. Raises
    UserError if their vocabulary sizes differ or the text does not fit.
    """
    prompt, options = _check(model, draft, prompt, key, length, lengths, ahead, sampling)
    carry = _start(model, variables, draft, draft_variables, prompt, options, length, ahead)
    state, counts, *_ = _advance(model, variables, draft, draft_variables, *carry, options, length, ahead)
    return Drafted(state.tokens, *counts)


def generate_stream(
    model: Any, variables: dict, draft: Any, draft_variables: dict, prompt: Any, key: jax.Array, *, length: int,
    ahead: int = 4, lengths: Any = None, block: int = 1, **sampling: Any,
) -> Generator[np.ndarray, None, Drafted]:  # fmt: skip
    """As `decoding.generate_stream`: yields the tokens that `generate` adds, at least `block` of each row at a time.

    The generator returns the `Drafted` of `generate`.
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
    for network in (model, draft):
        if not decoding.rewinds(network):
            raise UserError(
                f"{type(network).__name__} cannot forget a token that was not kept: no draft, and no model with one"
            )
    prompt, options = decoding.check(model, prompt, key, length, lengths, sampling)
    # A cache holds all but the last token, and the tokens drafted after it.
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
    """Rounds of drafting and verifying, until every row has `until` tokens or is done."""

    def going(carry):
        return ((carry[0].drawn < until) & ~carry[0].done).any()

    def one_round(carry):
        state, counts, cache, draft_cache = carry
        held = options["lengths"] + state.drawn
        at = held[:, None] + jnp.arange(ahead + 1)  # the positions of the round's tokens
        keys = {name: _keys(options["keys"], at, i) for i, name in enumerate(PURPOSES)}

        guess, q, places, draft_cache = _draft(
            draft, draft_variables, state, draft_cache | {"index": held - 1}, options, keys["draft"], ahead
        )
        chunk = decoding.slices(guess, held - 1, ahead + 1)
        logits, cache = model.apply(variables, chunk, cache=cache | {"index": held - 1})
        p = jnp.stack([_chances(logits[:, j], guess, state, j, places[j], options) for j in range(ahead + 1)], 1)

        drafted = chunk[:, 1:]
        uniform = jax.vmap(jax.vmap(jax.random.uniform))(keys["accept"][:, :-1])
        accepted, residual = verify(p, q, drafted, uniform)
        last = jnp.take_along_axis(keys["rest"], accepted[:, None], 1)[:, 0]
        replacement = jax.vmap(jax.random.categorical)(last, jnp.log(residual)).astype(jnp.int32)

        after, (tried, total_accepted, rounds) = state, counts
        rounds += ~state.done & (state.drawn < options["length"])
        for j in range(ahead + 1):
            active = ~after.done & (after.drawn < options["length"]) & (j <= accepted)
            token = jnp.where(j < accepted, drafted[:, min(j, ahead - 1)], replacement)
            after = decoding.append(after, token, active, options)
            tried, total_accepted = tried + (active & (j < ahead)), total_accepted + (active & (j < accepted))
        return after, (tried, total_accepted, rounds), cache, draft_cache

    return jax.lax.while_loop(going, one_round, (state, counts, cache, draft_cache))


def _draft(draft, variables, state: State, cache, options, keys, ahead: int):
    """Drafts `ahead` tokens after each row -> rows with them, their q f32[B, A, V], the constraint's places before each and
    after the last, and a cache that holds them all: if all are accepted, the next round starts after them."""
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
    """Probabilities f32[B, V] of the j-th token of a round; one-hot for greedy decoding."""
    left = options["length"] - state.drawn - 1 - j
    logits = decoding.process(logits, tokens, options["lengths"] + state.drawn + j, place, left, options)
    if "temperature" not in options["settings"]:
        return jax.nn.one_hot(logits.argmax(-1), logits.shape[-1])
    return jax.nn.softmax(logits)


def _keys(keys, at, purpose: int):
    """key[B] and positions i32[B, A] -> key[B, A], unique to row, position and purpose.

    A position whose draft was rejected reuses its keys: no accepted token depends on them.
    """
    position_keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(keys, at)
    return jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (0, None))(position_keys, purpose)

"""Beam search over any step function, as one pure function for use under `jit`.

Hypotheses are ranked by log-likelihood / penalty(n), n the number of tokens with the end token:

    gnmt    ((5 + n) / 6)^alpha, Wu et al. 2016 (1609.08144), equation 14
    power   n^alpha, fairseq's: with alpha = 1 the mean log-likelihood per token

Each turn takes the 2 W most likely continuations of a sentence's W unfinished hypotheses. Those among the first W that end
are finished; the W most likely that do not end are continued.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.util.errors import UserError, nearest

PENALTIES = {
    "gnmt": lambda n, alpha: ((5.0 + n) / 6.0) ** alpha,
    "power": lambda n, alpha: jnp.asarray(n, jnp.float32) ** alpha,
}
Step = Callable[[jax.Array, Any], tuple[jax.Array, Any]]


class Beams(NamedTuple):
    """Finished hypotheses of B sentences, the best first; a score of -inf where there are fewer than W."""

    tokens: jax.Array  # i32[B, W, length], `pad` after the end
    scores: jax.Array  # f32[B, W], log-likelihood in nats / penalty
    lengths: jax.Array  # i32[B, W], with the end token


def repeat(tree: Any, beam: int) -> Any:
    """Repeats each row W times: [B, ...] -> [B * W, ...] in every array but scalars. Use it on arrays that a step closes over."""

    def wide(x: jax.Array) -> jax.Array:  # jnp.repeat needs a static B, which an export does not have
        return jnp.broadcast_to(x[:, None], (x.shape[0], beam, *x.shape[1:])).reshape(-1, *x.shape[1:])

    return jax.tree.map(lambda x: wide(x) if jnp.ndim(x) else x, tree)


def take(cache: Any, rows: jax.Array) -> Any:
    """Takes rows i32[B * W] of the first axis of every array of a cache but scalars."""
    return jax.tree.map(lambda x: x[rows] if jnp.ndim(x) else x, cache)


class _State(NamedTuple):
    turn: jax.Array  # i32[]
    tokens: jax.Array  # i32[B, W, length], unfinished
    scores: jax.Array  # f32[B, W], their log-likelihoods
    finished: Beams
    over: jax.Array  # bool[B]
    cache: Any


def search(
    step: Step,
    cache: Any,
    first: jax.Array,
    *,
    length: int,
    beam: int = 4,
    eos: int | None = None,
    pad: int = 0,
    penalty: str = "power",
    alpha: float = 1.0,
    early: bool = True,
    min_length: int = 0,
    banned: Sequence[int] = (),
    repeated: Callable[[Any, int], Any] = repeat,
    taken: Callable[[Any, jax.Array], Any] = take,
) -> Beams:
    """The W best continuations of `first` i32[B] under `step`, by a beam of W = `beam`.

    step      (tokens i32[B * W], cache) -> logits f32[B * W, V] of the next token, cache. Row b W + w is beam w of sentence b
    cache     after all tokens before `first`, for B rows; `repeated` and `taken` repeat and take its rows
    length    maximum tokens of a hypothesis, with the end token, which alone can be the last of them
    eos       the end token; None: a hypothesis is any sequence of exactly `length` tokens
    early     a sentence is over when W hypotheses have ended (fairseq). False: when no continuation of an unfinished
              one can score better than the worst of W ended
    min_length    minimum tokens before the end
    banned    tokens that are never chosen; the others' probabilities are not renormalised

    With beam=1 and early=True this is greedy search; with as many beams as sequences and early=False, exhaustive search.
    Raises UserError for options out of range.

    >>> def step(tokens, cache):  # the same distribution over three tokens after any
    ...     return jnp.log(jnp.tile(jnp.array([0.1, 0.6, 0.3]), (len(tokens), 1))), cache
    >>> search(step, {}, jnp.array([0]), length=2, beam=2).tokens.tolist()
    [[[1, 1], [1, 2]]]
    """
    check(length, beam, eos, penalty, min_length)
    B = first.shape[0]
    norm = partial(PENALTIES[penalty], alpha=alpha)
    empty = jnp.full((B, beam, length), pad, jnp.int32)
    state = _State(
        turn=jnp.int32(0),
        tokens=empty,
        scores=jnp.where(jnp.arange(beam) == 0, 0.0, -jnp.inf) * jnp.ones((B, 1)),  # one hypothesis per sentence
        finished=Beams(empty, jnp.full((B, beam), -jnp.inf), jnp.zeros((B, beam), jnp.int32)),
        over=jnp.zeros(B, bool),
        cache=repeated(cache, beam),
    )

    def going(state: _State) -> jax.Array:
        return (state.turn < length) & ~state.over.all()

    def turn(state: _State) -> _State:
        last = jax.lax.dynamic_index_in_dim(state.tokens, jnp.maximum(state.turn - 1, 0), 2, keepdims=False)
        last = jnp.where(state.turn == 0, first[:, None], last)
        logits, cache = step(last.reshape(-1).astype(jnp.int32), state.cache)
        V = logits.shape[-1]
        allowed = _allowed(V, state.turn, length, eos, min_length, banned)
        logp = jnp.where(allowed, jax.nn.log_softmax(logits.astype(jnp.float32)), -jnp.inf)
        total = state.scores[..., None] + logp.reshape(B, beam, V)
        scores, places = jax.lax.top_k(total.reshape(B, beam * V), min(2 * beam, beam * V))
        parents, tokens = places // V, places % V
        sequences = jnp.take_along_axis(state.tokens, parents[..., None], 1)
        sequences = jax.lax.dynamic_update_index_in_dim(sequences, tokens, state.turn, 2)

        n = state.turn + 1
        ends = tokens == eos if eos is not None else jnp.broadcast_to(n == length, tokens.shape)
        first_ranks = jnp.arange(tokens.shape[1]) < beam
        ended = jnp.where(ends & first_ranks & ~state.over[:, None], scores / norm(n), -jnp.inf)
        finished = _best(state.finished, Beams(sequences, ended, jnp.full(tokens.shape, n)), beam)
        alive, keep = jax.lax.top_k(jnp.where(ends, -jnp.inf, scores), beam)
        if early:
            over = jnp.isfinite(finished.scores).all(-1)
        else:  # log-likelihoods only fall: the bound is the present best under the most favourable penalty
            penalty_bound = jnp.maximum(norm(n + 1), norm(length))
            over = finished.scores.min(-1) >= alive.max(-1) / penalty_bound
        rows = (jnp.arange(B)[:, None] * beam + jnp.take_along_axis(parents, keep, 1)).reshape(-1)
        sequences = jnp.take_along_axis(sequences, keep[..., None], 1)
        return _State(n, sequences, alive, finished, state.over | over, taken(cache, rows))

    return jax.lax.while_loop(going, turn, state).finished


def check(length: int, beam: int, eos: int | None, penalty: str, min_length: int) -> None:
    """Raises UserError for options of `search` that are out of range."""
    for name, value, least in (("length", length, 1), ("beam", beam, 1), ("min_length", min_length, 0)):
        if value < least:
            raise UserError(f"{name}={value}: want at least {least}")
    if penalty not in PENALTIES:
        raise UserError(f"unknown length penalty {penalty!r}{nearest(penalty, PENALTIES)}")
    if eos is not None and min_length >= length:
        raise UserError(f"min_length={min_length} leaves no room for an end within length={length}")


def _allowed(
    V: int, turn: jax.Array, length: int, eos: int | None, min_length: int, banned: Sequence[int]
) -> jax.Array:
    """bool[V]: the tokens that may come at this turn."""
    ids = jnp.arange(V)
    allowed = jnp.ones(V, bool)
    for token in banned:
        allowed &= ids != token
    if eos is None:
        return allowed
    allowed &= (ids != eos) | (turn >= min_length)
    return jnp.where(turn == length - 1, ids == eos, allowed)


def _best(a: Beams, b: Beams, beam: int) -> Beams:
    """The `beam` best hypotheses of both; among equals those of `a`."""
    both = Beams(*(jnp.concatenate(pair, 1) for pair in zip(a, b, strict=True)))
    scores, keep = jax.lax.top_k(both.scores, beam)
    return Beams(
        jnp.take_along_axis(both.tokens, keep[..., None], 1), scores, jnp.take_along_axis(both.lengths, keep, 1)
    )


@partial(jax.jit, static_argnames=("model", "length", "beam", "eos", "options"))
def _continued(model, variables, prompt, length, beam, eos, options):
    B, T = prompt.shape
    floats = [x.dtype for x in jax.tree.leaves(variables["params"]) if jnp.issubdtype(x.dtype, jnp.floating)]
    cache = model.init_cache(B, T - 1 + length, jnp.result_type(*floats))
    if T > 1:
        _, cache = model.apply(variables, prompt[:, :-1], cache=cache)
    axis = 1 if getattr(model, "scan", False) else 0  # a scanned model's cache has its layers first

    def moved(move: Callable) -> Callable:
        def over(cache, argument):
            layers = jax.tree.map(
                lambda x: jnp.moveaxis(move(jnp.moveaxis(x, axis, 0), argument), 0, axis), cache["layers"]
            )
            return {**move({k: v for k, v in cache.items() if k != "layers"}, argument), "layers": layers}

        return over

    def step(tokens, cache):
        logits, cache = model.apply(variables, tokens[:, None], cache=cache)
        return logits[:, 0], cache

    rows = {"repeated": moved(repeat), "taken": moved(take)}
    return search(step, cache, prompt[:, -1], length=length, beam=beam, eos=eos, **rows, **dict(options))


def continued(
    model: Any, variables: dict, prompt: jax.Array, *, length: int, beam: int, eos: int | None = None, **options: Any
) -> Beams:
    """The best continuations of prompts i32[B, T] by a language model: `search`, with its options.

    A model as in `decoding`, whose cache is {"index", "layers"}. Raises UserError if prompt and continuation exceed max_length.
    """
    if (total := prompt.shape[1] + length - 1) > model.max_length:
        raise UserError(
            f"a prompt of {prompt.shape[1]} tokens and {length} more want {total}: max_length={model.max_length}"
        )
    return _continued(
        model, variables, jnp.asarray(prompt, jnp.int32), length, beam, eos, tuple(sorted(options.items()))
    )

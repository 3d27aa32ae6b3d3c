"""Generation: logit processors, and sampling from a model with a cache, whole or as a stream.

A model here is anything with `apply(variables, tokens, cache=) -> (logits f32[B, T, V], cache)`,
`init_cache(batch, length, dtype)`, `cache["index"]` tokens held, `max_length` and `vocab_size`.

When a context outgrows `max_length` the cache is rebuilt from the last `max_length // 2` tokens.
Learned positions allow no sliding without recomputing; this recomputes once every half window,
where cropping to the last `max_length` tokens recomputes all of them for every token.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.host.errors import UserError, nearest


def repetition_penalty(logits: jax.Array, seen: jax.Array, penalty: float) -> jax.Array:
    """Divides the positive logits of `seen` bool[..., V] by `penalty`, multiplies the others.

    Keskar et al. 2019, CTRL (1909.05858), section 4.1, which discounts 1.2.
    """
    return jnp.where(seen, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)


def top_k(logits: jax.Array, k: int) -> jax.Array:
    """-inf for all of f[..., V] but the `k` largest and their ties (Fan et al. 1805.04833)."""
    V = logits.shape[-1]
    least = jnp.take(jnp.sort(logits), jnp.maximum(V - k, 0), axis=-1)
    return jnp.where(logits < least[..., None], -jnp.inf, logits)


def top_p(logits: jax.Array, p: float) -> jax.Array:
    """-inf for all of f[..., V] but the fewest likeliest whose mass reaches `p` in (0, 1].

    Nucleus sampling (Holtzman et al. 2019, 1904.09751). At least one stays; among equals, the
    lower index.
    """
    order = jnp.argsort(logits, descending=True)
    mass = jax.nn.softmax(jnp.take_along_axis(logits, order, -1))
    keep = (jnp.cumsum(mass, -1) - mass < p) | (p >= 1)  # rounding must not cut the tail off
    return jnp.where(jnp.take_along_axis(keep, jnp.argsort(order), -1), logits, -jnp.inf)


def min_p(logits: jax.Array, p: float) -> jax.Array:
    """-inf where a probability is below `p` times the highest (Nguyen et al. 2024, 2407.01082)."""
    return jnp.where(logits < logits.max(-1, keepdims=True) + jnp.log(p), -jnp.inf, logits)


class Sampling(NamedTuple):
    """How `generate` chooses. Logits pass through the processors in this order; None is off."""

    repetition_penalty: float | None = None  # over the prompt too
    temperature: float = 1.0  # 0: the likeliest token; top_k, top_p and min_p then change nothing
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    stop: Sequence[Sequence[int]] = ()  # token ids; a row ends with the first it generates whole
    pad: int = 0  # the token that follows in a row that has ended


def generate(
    model: Any, variables: dict, prompt: jax.Array, key: jax.Array, *, length: int, **sampling: Any
) -> jax.Array:
    """Continues prompts of one length: i32[B, T] -> i32[B, T + length]. Keywords: `Sampling`.

    The token in column t is drawn with fold_in(row's key, t), so rows are independent; `key` is
    one key, from which row i gets fold_in(key, i), or key[B], which makes a row the same in any
    batch. New numbers among the settings compile nothing anew; new shapes do. `UserError` for
    settings unknown or out of range.
    """
    prompt, options = _options(model, prompt, key, length, sampling)
    state, cache = _start(model, variables, prompt, options, length)
    total = state.tokens.shape[1]
    return _advance(model, variables, state, cache, options, total)[0].tokens


def stream(
    model: Any,
    variables: dict,
    prompt: jax.Array,
    key: jax.Array,
    *,
    length: int,
    block: int = 1,
    **sampling: Any,
) -> Iterator[np.ndarray]:
    """The columns that `generate` adds, i32[B] each, as they come, until every row has ended.

    They are fetched `block` at a time while the next block is computed. The compiled loop is
    generate's own, so the tokens are the same.
    """
    if block < 1:
        raise UserError(f"block={block}: want at least 1")
    prompt, options = _options(model, prompt, key, length, sampling)

    def columns():
        shown, total = prompt.shape[1], prompt.shape[1] + length
        ahead, cache = _start(model, variables, prompt, options, length)
        until = shown + 1
        while shown < total:
            state, until = ahead, min(until + block, total)
            ahead, cache = _advance(model, variables, state, cache, options, until)
            filled = int(state.position)
            yield from np.asarray(state.tokens).T[shown:filled]
            if bool(state.done.all()):
                return
            shown = filled

    return columns()  # the arguments are checked at the call, not at the first token


class State(NamedTuple):
    tokens: jax.Array  # i32[B, T + length], padded from `position` on
    position: jax.Array  # i32[], the next column to fill
    done: jax.Array  # bool[B], whether a stop sequence was met


@partial(jax.jit, static_argnames=("model", "length"))
def _start(model, variables, prompt, options, length):
    """Reads the prompt and draws the first token."""
    B, T = prompt.shape
    cache = _cache(model, variables, B, T + length)
    logits, cache = model.apply(variables, prompt[:, -model.max_length :], cache=cache)
    rest = jnp.full((B, length), options["pad"], prompt.dtype)
    tokens = jnp.concatenate([prompt, rest], axis=1)
    state = State(tokens, jnp.int32(T), jnp.zeros(B, bool))
    return _append(state, logits[:, -1], options), cache


@partial(jax.jit, static_argnames="model", donate_argnames="cache")
def _advance(model, variables, state, cache, options, until):
    """Draws tokens until column `until` or until every row is done."""
    B, total = state.tokens.shape

    def going(carry):
        return (carry[0].position < until) & ~carry[0].done.all()

    def decode(carry):
        state, cache = carry
        last = jax.lax.dynamic_slice_in_dim(state.tokens, state.position - 1, 1, axis=1)
        logits, cache = model.apply(variables, last, cache=cache)
        return _append(state, logits[:, -1], options), cache

    if total - 1 <= model.max_length:
        return jax.lax.while_loop(going, decode, (state, cache))

    def refill(carry):
        state, _ = carry
        half = max(1, model.max_length // 2)
        context = jax.lax.dynamic_slice_in_dim(state.tokens, state.position - half, half, axis=1)
        logits, cache = model.apply(variables, context, cache=_cache(model, variables, B, total))
        return _append(state, logits[:, -1], options), cache

    def room(carry):
        return carry[1]["index"] < model.max_length

    def window(carry):
        carry = jax.lax.cond(room(carry), lambda carry: carry, refill, carry)
        return jax.lax.while_loop(lambda c: going(c) & room(c), decode, carry)

    return jax.lax.while_loop(going, window, (state, cache))


def _cache(model, variables, batch, total):
    leaves = [leaf.dtype for leaf in jax.tree.leaves(variables["params"])]
    dtype = jnp.result_type(*(d for d in leaves if jnp.issubdtype(d, jnp.floating)))
    return model.init_cache(batch, min(total - 1, model.max_length), dtype)


def _append(state, logits, options):
    """Draws one token a row, writes it, and marks the rows that it ends."""
    tokens, position, done = state
    token = jnp.where(done, options["pad"], _draw(state, logits, options))
    tokens = jax.lax.dynamic_update_slice_in_dim(tokens, token[:, None], position, axis=1)
    for sequence in options["stop"]:
        first = position + 1 - sequence.size
        tail = jax.lax.dynamic_slice_in_dim(tokens, first, sequence.size, axis=1)
        done |= (first >= options["prompt"]) & (tail == sequence).all(1)
    return State(tokens, position + 1, done)


def _draw(state, logits, options):
    settings = options["settings"]
    if "repetition_penalty" in settings:
        B, V = logits.shape
        filled = jnp.arange(state.tokens.shape[1]) < state.position
        ids = jnp.where(filled, state.tokens, V)  # V is out of range, hence dropped
        seen = jnp.zeros((B, V), bool).at[jnp.arange(B)[:, None], ids].set(True, mode="drop")
        logits = repetition_penalty(logits, seen, settings["repetition_penalty"])
    if "temperature" not in settings:
        return logits.argmax(-1).astype(jnp.int32)
    logits = logits / settings["temperature"]
    for process in (top_k, top_p, min_p):
        if process.__name__ in settings:
            logits = process(logits, settings[process.__name__])
    keys = jax.vmap(jax.random.fold_in, (0, None))(options["keys"], state.position)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


RANGES = {
    "temperature": (lambda x: x >= 0, "at least 0"),
    "top_k": (lambda x: isinstance(x, int) and x >= 1, "a whole number, at least 1"),
    "top_p": (lambda x: 0 < x <= 1, "above 0 and at most 1"),
    "min_p": (lambda x: 0 < x <= 1, "above 0 and at most 1"),
    "repetition_penalty": (lambda x: x > 0, "above 0"),
}


def _options(model, prompt, key, length, sampling):
    """Checks the arguments; settings in use become traced values under a static structure."""
    if unknown := sorted(sampling.keys() - set(Sampling._fields)):
        raise UserError(f"unknown {unknown[0]!r}{nearest(unknown[0], Sampling._fields)}")
    *_, stop, pad = sampling = Sampling(**sampling)
    prompt = np.asarray(prompt, np.int32)
    if prompt.ndim != 2 or not prompt.size:
        raise UserError(f"prompt of shape {prompt.shape}: want i32[B, T] with B and T at least 1")
    if prompt.min() < 0 or prompt.max() >= model.vocab_size:
        raise UserError(f"prompt has a token outside the vocabulary, 0..{model.vocab_size - 1}")
    if length < 1:
        raise UserError(f"length={length}: want at least 1 token to generate")
    if not all(len(sequence) for sequence in stop):
        raise UserError("stop has an empty sequence: want one token or more in each")
    if key.ndim and key.shape != prompt.shape[:1]:
        raise UserError(f"key of shape {key.shape}: want one, or one for each of {len(prompt)} rows")
    settings = {k: v for k, v in sampling._asdict().items() if k in RANGES and v is not None}
    for name, value in settings.items():
        within, wanted = RANGES[name]
        if not within(value):
            raise UserError(f"{name}={value}: want {wanted}")
    if settings.setdefault("temperature", 1.0) == 0:
        del settings["temperature"]
    keys = key if key.ndim else jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(len(prompt)))
    stop = [np.asarray(s, np.int32) for s in stop if len(s) <= length]
    return prompt, {
        "settings": settings,
        "stop": stop,
        "keys": keys,
        "pad": pad,
        "prompt": prompt.shape[1],
    }

"""Generation: logit processors, and sampling from a model with a cache, at once or as a stream of tokens.

A model is anything with `apply(variables, tokens, cache=) -> (logits f32[B, T, V], cache)`,
`init_cache(batch, length, dtype)`, `max_length` and `vocab_size`. `cache["index"]` i32[B] is the number
of tokens in each row, and decreasing it discards the last ones: so prompts of different lengths share
a batch, left-aligned, and their padding is read and discarded. A model that cannot discard tokens,
such as a recurrent one, has `rewinds = False` and takes prompts of one length.

When a context exceeds `max_length` the cache is rebuilt from the last `max_length // 2` tokens.
Learned positions cannot slide without recomputation; this recomputes once every half window,
where cropping to the last `max_length` tokens recomputes all of them for every token. The other
arrays of the cache are then [..., B, N, S, K].
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.generation.constraints import Constraint
from research.util.errors import UserError, nearest


def repetition_penalty(logits: jax.Array, seen: jax.Array, penalty: float) -> jax.Array:
    """Of the tokens `seen` bool[..., V], divides positive logits f[..., V] by `penalty` and multiplies negative ones by it.

    Keskar et al. 2019, CTRL (1909.05858), section 4.1, which uses 1.2.

    >>> repetition_penalty(jnp.array([2.0, -2.0, 1.0]), jnp.array([True, True, False]), penalty=2.0).tolist()
    [1.0, -4.0, 1.0]
    """
    return jnp.where(seen, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)


def top_k(logits: jax.Array, k: int) -> jax.Array:
    """Sets all of f[..., V] to -inf except the `k` largest and their ties (Fan et al. 2018, 1805.04833).

    >>> top_k(jnp.array([1.0, 3.0, 2.0]), k=2).tolist()
    [-inf, 3.0, 2.0]
    """
    V = logits.shape[-1]
    least = jnp.take(jnp.sort(logits), jnp.maximum(V - k, 0), axis=-1)
    return jnp.where(logits < least[..., None], -jnp.inf, logits)


def top_p(logits: jax.Array, p: float) -> jax.Array:
    """Sets all of f[..., V] to -inf except the fewest most probable tokens whose mass reaches `p` in (0, 1].

    Nucleus sampling (Holtzman et al. 2019, 1904.09751). At least one token is kept; among equals,
    the lower index.

    >>> jnp.isfinite(top_p(jnp.log(jnp.array([0.5, 0.2, 0.3])), p=0.6)).tolist()
    [True, False, True]
    """
    order = jnp.argsort(logits, descending=True)
    mass = jax.nn.softmax(jnp.take_along_axis(logits, order, -1))
    keep = (jnp.cumsum(mass, -1) - mass < p) | (p >= 1)  # rounding must not remove the tail
    return jnp.where(jnp.take_along_axis(keep, jnp.argsort(order), -1), logits, -jnp.inf)


def min_p(logits: jax.Array, p: float) -> jax.Array:
    """Sets logits f[..., V] to -inf where the probability is below `p` times the highest (Nguyen et al. 2024, 2407.01082)."""
    return jnp.where(logits < logits.max(-1, keepdims=True) + jnp.log(p), -jnp.inf, logits)


class Sampling(NamedTuple):
    """Options of `generate`. Logits pass through the processors in this order; None disables one."""

    repetition_penalty: float | None = None  # over the prompt too
    constraint: Constraint | None = None  # the generated text must match it
    temperature: float = 1.0  # 0: greedy; top_k, top_p and min_p then have no effect
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    stop: Sequence[Sequence[int]] = ()  # token ids; a row ends after the first sequence that it generates
    pad: int = 0  # fills a row after its end


def generate(
    model: Any,
    variables: dict,
    prompt: Any,
    key: jax.Array,
    *,
    length: int,
    lengths: Any = None,
    room: int = 0,
    **sampling: Any,
) -> jax.Array:
    """Continues prompts by up to `length` tokens: i32[B, T + length]. Keywords: `Sampling`.

    `prompt` is i32[B, T], of which row i has `lengths[i]` tokens (None: T), or a list of B lists of
    ids. Row i of the result is its prompt, the generated tokens, and padding. Prompts are padded to `room` tokens if they are
    shorter, so that prompts of other lengths do not recompile; T is then `room`.

    A row's t-th token is drawn with fold_in(row's key, t), so rows are independent; `key` is one
    key, from which row i gets fold_in(key, i), or key[B], which makes a row the same in any batch,
    beside longer prompts too. Changed numbers among the options do not recompile; new shapes do.
    Raises UserError for unknown options and for values out of range.
    """
    prompt, options = check(model, prompt, key, length, lengths, sampling, room)
    state, cache = start(model, variables, prompt, options, length)
    return _advance(model, variables, state, cache, options, length)[0].tokens


def generate_stream(
    model: Any,
    variables: dict,
    prompt: Any,
    key: jax.Array,
    *,
    length: int,
    lengths: Any = None,
    room: int = 0,
    block: int = 1,
    **sampling: Any,
) -> Iterator[np.ndarray]:
    """Yields the tokens that `generate` adds, i32[B] for each position, until every row has ended.

    They are fetched `block` at a time while the next block is computed. The compiled loop is that
    of `generate`, so the tokens are the same. Arguments are checked at the call.
    """
    prompt, options = check(model, prompt, key, length, lengths, sampling, room)
    begin = partial(start, model, variables, prompt, options, length)
    return columns(begin, lambda carry, until: _advance(model, variables, *carry, options, until), options, block)


def columns(begin: Callable, advance: Callable, options: dict, block: int) -> Generator[np.ndarray, None, tuple]:
    """Yields columns i32[B] of generated tokens, and returns the last (state, ...).

    `begin() -> (state, ...)` draws the first token, `advance((state, ...), until) -> (state, ...)` those up to `until`.
    """
    if block < 1:
        raise UserError(f"block={block}: want at least 1")
    lengths, length = (np.asarray(options[k]) for k in ("lengths", "length"))

    def each() -> Generator[np.ndarray, None, tuple]:
        ahead, shown, until = begin(), 0, 1
        while shown < length:
            state, until = ahead[0], min(until + block, int(length))
            ahead = advance(ahead, until)
            tokens, drawn, done = (np.asarray(x) for x in (state.tokens, state.drawn, state.done))
            filled = drawn.max() if done.all() else drawn[~done].min()
            yield from np.take_along_axis(tokens, lengths[:, None] + np.arange(shown, filled), 1).T
            if done.all():
                break
            shown = int(filled)
        return ahead

    return each()  # the arguments are checked at the call, not at the first token


class State(NamedTuple):
    tokens: jax.Array  # i32[B, T + length], padded after a row's tokens
    drawn: jax.Array  # i32[B], number of tokens generated in each row
    done: jax.Array  # bool[B], whether the row has ended
    place: jax.Array  # i32[B], the constraint's state, if there is one


@partial(jax.jit, static_argnames=("model", "length", "spare"))
def start(
    model: Any, variables: dict, prompt: jax.Array, options: dict, length: int, spare: int = 0
) -> tuple[State, dict]:
    """Reads the prompts and draws the first token of each. The cache has room for `spare` tokens more than needed."""
    (B, T), L = prompt.shape, model.max_length
    logits, cache = read(model, variables, prompt, options["lengths"], min(T + length - 1 + spare, L))
    tokens = jnp.where(jnp.arange(T) < options["lengths"][:, None], prompt, options["pad"])
    tokens = jnp.pad(tokens, ((0, 0), (0, length)), constant_values=options["pad"])
    state = State(tokens, jnp.zeros(B, jnp.int32), jnp.zeros(B, bool), jnp.zeros(B, jnp.int32))
    return _append(state, logits, options), cache


def read(model: Any, variables: dict, prompt: jax.Array, lengths: jax.Array, size: int) -> tuple[jax.Array, dict]:
    """The last `max_length` tokens of each prompt -> logits f32[B, V] of the next, a cache for `size` tokens."""
    (B, T), L = prompt.shape, model.max_length
    held = jnp.minimum(lengths, L)
    context = slices(prompt, lengths - held, min(T, L))
    logits, cache = model.apply(variables, context, cache=new_cache(model, variables, B, size))
    return jnp.take_along_axis(logits, held[:, None, None] - 1, 1)[:, 0], {**cache, "index": held}


@partial(jax.jit, static_argnames="model", donate_argnames="cache")
def _advance(model, variables, state, cache, options, until):
    """Generates until every row has `until` new tokens or is done."""
    B, total = state.tokens.shape

    def going(carry):
        return ((carry[0].drawn < until) & ~carry[0].done).any()

    def forward(state, cache):
        last = slices(state.tokens, options["lengths"] + state.drawn - 1, 1)
        logits, after = model.apply(variables, last, cache=cache)
        return logits[:, -1], {**after, "index": jnp.where(state.done, cache["index"], after["index"])}

    def decode(carry):
        logits, cache = forward(*carry)
        return _append(carry[0], logits, options), cache

    if total - 1 <= model.max_length:
        return jax.lax.while_loop(going, decode, (state, cache))

    def refill(carry):
        """One token: full rows recompute half a window, the others decode as usual."""
        state, cache = carry
        full, half = cache["index"] >= model.max_length, max(1, model.max_length // 2)
        context = slices(state.tokens, options["lengths"] + state.drawn - half, half)
        size = min(total - 1, model.max_length)
        fresh = model.apply(variables, context, cache=new_cache(model, variables, B, size))
        logits, cache = forward(state, cache)
        logits = jnp.where(full[:, None], fresh[0][:, -1], logits)
        index = jnp.where(full & ~state.done, half, cache["index"])
        cache = jax.tree.map(
            lambda new, old: jnp.where(full[:, None, None, None], new, old),
            *({k: v for k, v in c.items() if k != "index"} for c in (fresh[1], cache)),
        )
        return _append(state, logits, options), {**cache, "index": index}

    def room(carry):
        return ((carry[1]["index"] < model.max_length) | carry[0].done).all()

    def window(carry):
        carry = jax.lax.cond(room(carry), lambda carry: carry, refill, carry)
        return jax.lax.while_loop(lambda c: going(c) & room(c), decode, carry)

    return jax.lax.while_loop(going, window, (state, cache))


def slices(tokens: jax.Array, begins: jax.Array, size: int) -> jax.Array:
    """`size` columns of tokens i32[B, T], from column `begins` i32[B] of each row -> i32[B, size]."""
    return jax.vmap(lambda row, begin: jax.lax.dynamic_slice_in_dim(row, begin, size))(tokens, begins)


def rewinds(model: Any) -> bool:
    """Whether decreasing `cache["index"]` discards tokens."""
    return getattr(model, "rewinds", True)


def new_cache(model: Any, variables: dict, batch: int, size: int) -> dict:
    """An empty cache in the parameters' dtype."""
    leaves = [leaf.dtype for leaf in jax.tree.leaves(variables["params"])]
    dtype = jnp.result_type(*(d for d in leaves if jnp.issubdtype(d, jnp.floating)))
    return model.init_cache(batch, size, dtype)


def _append(state, logits, options):
    """Draws one token for each row that has not ended."""
    at = options["lengths"] + state.drawn
    logits = process(logits, state.tokens, at, state.place, options["length"] - state.drawn - 1, options)
    if "temperature" not in options["settings"]:
        token = logits.argmax(-1)
    else:
        token = jax.vmap(jax.random.categorical)(fold(options["keys"], at), logits)
    return append(state, token.astype(jnp.int32), ~state.done, options)


def process(
    logits: jax.Array, tokens: jax.Array, held: jax.Array, place: jax.Array, left: jax.Array, options: dict
) -> jax.Array:
    """Logits f32[B, V] to draw a token from, given rows of `held` i32[B] tokens in i32[B, S].

    `place` i32[B] is the constraint's state, and `left` i32[B] the number of tokens that may follow the drawn one.
    """
    settings = options["settings"]
    if "repetition_penalty" in settings:
        B, V = logits.shape
        ids = jnp.where(jnp.arange(tokens.shape[1]) < held[:, None], tokens, V)  # V is out of range, hence dropped
        seen = jnp.zeros((B, V), bool).at[jnp.arange(B)[:, None], ids].set(True, mode="drop")
        logits = repetition_penalty(logits, seen, settings["repetition_penalty"])
    if "constraint" in options:
        logits = jnp.where(options["constraint"].drawable(place, left), logits, -jnp.inf)
    if "temperature" not in settings:
        return logits
    logits = logits / settings["temperature"]
    for processor in (top_k, top_p, min_p):
        if processor.__name__ in settings:
            logits = processor(logits, settings[processor.__name__])
    return logits


def fold(keys: jax.Array, data: jax.Array) -> jax.Array:
    """`jax.random.fold_in` of each row: key[B], i32[B] -> key[B]."""
    return jax.vmap(jax.random.fold_in)(keys, data)


def append(state: State, token: jax.Array, active: jax.Array, options: dict) -> State:
    """Appends token i32[B] to the rows that are `active` bool[B], and marks those that it ends as done."""
    tokens, drawn, done, place = state
    if "constraint" in options:
        after = options["constraint"].follow(place, token, options["length"] - drawn - 1)
        done |= active & ~options["constraint"].goes_on(after)
        place = jnp.where(active, after, place)
        active &= after >= 0  # a token that breaks the match ends the text and is not part of it
    at = jnp.where(active, options["lengths"] + drawn, tokens.shape[1])  # out of range, hence dropped
    tokens = tokens.at[jnp.arange(len(tokens)), at].set(token, mode="drop")
    drawn += active
    for sequence in options["stop"]:
        tail = slices(tokens, options["lengths"] + drawn - sequence.size, sequence.size)
        done |= active & (drawn >= sequence.size) & (tail == sequence).all(1)
    return State(tokens, drawn, done, place)


RANGES = {
    "temperature": (lambda x: 0 <= x < np.inf, "at least 0 and finite"),
    "top_k": (lambda x: isinstance(x, int) and x >= 1, "a whole number, at least 1"),
    "top_p": (lambda x: 0 < x <= 1, "above 0 and at most 1"),
    "min_p": (lambda x: 0 < x <= 1, "above 0 and at most 1"),
    "repetition_penalty": (lambda x: 0 < x < np.inf, "above 0 and finite"),
}


def check_settings(settings: dict, prefix: str = "") -> dict:
    """The numbers among the options of `Sampling` that are not None. Raises UserError, which names `prefix` too, out of range."""
    found = {name: settings[name] for name in RANGES if settings.get(name) is not None}
    for name, value in found.items():
        valid, description = RANGES[name]
        if isinstance(value, str) or not valid(value):
            raise UserError(f"{prefix}{name}={value}: want {description}")
    return found


def check(
    model: Any, prompt: Any, key: jax.Array, length: int, lengths: Any, sampling: dict, room: int = 0
) -> tuple[np.ndarray, dict]:
    """-> prompts i32[B, T], and the options as a pytree of traced values. Raises UserError as `generate` says."""
    if unknown := sorted(sampling.keys() - set(Sampling._fields)):
        raise UserError(f"unknown {unknown[0]!r}{nearest(unknown[0], Sampling._fields)}")
    sampler = Sampling(**sampling)
    prompt, lengths = _prompts(model, prompt, lengths)
    prompt = np.pad(prompt, ((0, 0), (0, max(0, room - prompt.shape[1]))), "edge")
    if set(lengths.tolist()) != {prompt.shape[1]} and not rewinds(model):
        raise UserError(
            f"prompts of different lengths: {type(model).__name__} cannot forget padding; give one at a time"
        )
    if length < 1:
        raise UserError(f"length={length}: want at least 1 token to generate")
    if not all(len(sequence) for sequence in sampler.stop):
        raise UserError("stop has an empty sequence: want one token or more in each")
    if key.ndim and key.shape != prompt.shape[:1]:
        raise UserError(f"key of shape {key.shape}: want one, or one for each of {len(prompt)} rows")
    settings = check_settings(sampler._asdict())
    if settings.setdefault("temperature", 1.0) == 0:
        del settings["temperature"]
    options = {
        "settings": settings,
        "stop": [np.asarray(s, np.int32) for s in sampler.stop if len(s) <= length],
        "keys": key if key.ndim else jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(len(prompt))),
        "pad": sampler.pad,
        "lengths": lengths,
        "length": length,
    }
    if sampler.constraint is not None:
        sampler.constraint.check(model.vocab_size, length)
        if sampler.stop:
            raise UserError("stop and constraint: a text that must match ends where it does; leave stop out")
        options["constraint"] = sampler.constraint
    return prompt, options


def _prompts(model: Any, prompt: Any, lengths: Any) -> tuple[np.ndarray, np.ndarray]:
    """-> i32[B, T], the shorter rows padded with their first token, and lengths i32[B]."""
    rows = [np.asarray(r, np.int32) for r in (prompt if isinstance(prompt, list | tuple) else np.asarray(prompt))]
    if not rows or any(row.ndim != 1 or not row.size for row in rows):
        shapes = {row.shape for row in rows}
        shape = (len(rows), *shapes.pop()) if len(shapes) == 1 else f"({len(rows)}, ...) with an empty row"
        raise UserError(f"prompt of shape {shape}: want i32[B, T] with B and T at least 1, or B lists of ids")
    if lengths is not None:
        lengths = np.asarray(lengths)
        if lengths.shape != (len(rows),) or any(not 1 <= n <= len(r) for n, r in zip(lengths, rows, strict=True)):
            raise UserError(f"lengths={lengths.tolist()}: want one for each of {len(rows)} prompts, within it")
        rows = [row[:n] for row, n in zip(rows, lengths, strict=True)]
    counts = np.array([len(row) for row in rows], np.int32)
    padded = np.stack([np.pad(row, (0, counts.max() - len(row)), constant_values=row[0]) for row in rows])
    if padded.min() < 0 or padded.max() >= model.vocab_size:
        raise UserError(f"prompt has a token outside the vocabulary, 0..{model.vocab_size - 1}")
    return padded, counts

"""Gradual unfreezing (Howard & Ruder 2018, 1801.06146, section 3.3): parameters that begin to train later, named by path.

A config says `optim.unfreeze = ((paths, duration), ...)`: a parameter is of the first pattern that matches it, and trains from
the first step if none does. Until it begins it stays the same to the bit, and has no decay and no moments; then it trains as
under an optimiser that begins there, at the schedule's rate of that step. What no gradient may reach at all is `optim.freeze`'s.
`research/algorithms/finetune.py` counts the layers of a transformer instead.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from research.core.mesh import path_name
from research.util.errors import UserError


class Group(NamedTuple):
    pattern: str
    begins: int  # the step from which its parameters train


def groups(pairs: Any, num_steps: int) -> tuple[Group, ...]:
    """The value of `optim.unfreeze`, durations in steps. Raises UserError if it is of another form, or one would never train."""
    made = []
    for pair in pairs or ():
        if not isinstance(pair, tuple | list) or list(map(type, pair)) != [str, int] or pair[1] < 0:
            raise UserError(f"optim.unfreeze has {pair!r}: want a pair of paths and a duration, ('^block', '1 epoch')")
        pattern, begins = pair
        try:
            re.compile(pattern)
        except re.error as e:
            raise UserError(f"optim.unfreeze has {pattern!r}, which is no regular expression: {e}") from None
        if begins >= num_steps > 0:
            raise UserError(
                f"optim.unfreeze: {pattern!r} trains from step {begins} on, and num_steps = {num_steps}: "
                "begin earlier, or name it in optim.freeze"
            )
        made.append(Group(pattern, begins))
    return tuple(made)


def until(
    waits: Sequence[Group], make: Callable[[int], optax.GradientTransformation], updates: int = 1
) -> optax.GradientTransformation:
    """`make(step)` is the transformation of what trains from a step on; each step is so many `updates`."""
    each = {str(i): _after(make(group.begins), group.begins * updates) for i, group in enumerate(waits)}
    return optax.multi_transform(each | {"": make(0)}, lambda params: _labels(waits, params))


def check(waits: Sequence[Group], params: Any) -> None:
    """Raises UserError for a pattern that is no parameter's first."""
    labels = set(jax.tree.leaves(_labels(waits, params)))
    for i, group in enumerate(waits):
        if str(i) not in labels:
            raise UserError(
                f"optim.unfreeze: {group.pattern!r} matches no parameter that is not matched before; "
                "see the paths with `almanac show`"
            )


def begins(waits: Sequence[Group], params: Any) -> Any:
    """The step from which each parameter trains, a tree of ints."""
    return jax.tree.map(lambda label: waits[int(label)].begins if label else 0, _labels(waits, params))


def still() -> optax.GradientTransformation:
    """Updates of -0, which change no bit of any number: -0 + 0 would be 0."""
    return optax.stateless(lambda updates, _: jax.tree.map(lambda u: jnp.full_like(u, -0.0), updates))


class _State(NamedTuple):
    count: jax.Array  # i32[], updates made or waited for
    inner: Any


def _after(tx: optax.GradientTransformation, first: int) -> optax.GradientTransformation:
    """`tx` from update `first` on, counted from 0: before, its state stays and nothing moves."""

    def init(params):
        return _State(jnp.zeros((), jnp.int32), tx.init(params))

    def update(updates, state, params=None):
        begun = state.count >= first
        updates, inner = tx.update(updates, state.inner, params)
        inner = jax.tree.map(lambda new, old: jnp.where(begun, new, old), inner, state.inner)
        updates = jax.tree.map(lambda u: jnp.where(begun, u, -0.0), updates)
        return updates, _State(optax.safe_increment(state.count), inner)

    return optax.GradientTransformation(init, update)


def _labels(waits: Sequence[Group], params: Any) -> Any:
    def label(path, _):
        return next((str(i) for i, group in enumerate(waits) if re.search(group.pattern, path_name(path))), "")

    return jax.tree_util.tree_map_with_path(label, params)

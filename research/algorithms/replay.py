"""A replay buffer of fixed shape, which is part of a TrainState and so of its checkpoints."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Replay(NamedTuple):
    """The newest rows: {name: [capacity, ...]}, and how many were ever added, i32[]."""

    rows: Mapping[str, jax.Array]
    added: jax.Array


def empty(capacity: int, row: Mapping[str, jax.ShapeDtypeStruct]) -> Replay:
    """`row` has the shapes and dtypes of one row, {name: [...]}."""
    return Replay({k: jnp.zeros((capacity, *v.shape), v.dtype) for k, v in row.items()}, jnp.zeros((), jnp.int32))


def add(replay: Replay, rows: Mapping[str, jax.Array]) -> Replay:
    """Appends {name: [n, ...]}, in place of the oldest rows of a full buffer. The capacity is a multiple of n.

    >>> replay = empty(4, {"x": jax.ShapeDtypeStruct((), jnp.int32)})
    >>> for first in (0, 2, 4):
    ...     replay = add(replay, {"x": jnp.arange(first, first + 2)})
    >>> replay.rows["x"].tolist(), int(replay.added)
    ([4, 5, 2, 3], 6)
    """
    capacity, count = (len(next(iter(x.values()))) for x in (replay.rows, rows))
    assert capacity % count == 0, f"{capacity} rows are no multiple of {count}"
    start = replay.added % capacity
    written = {
        k: jax.lax.dynamic_update_slice_in_dim(replay.rows[k], v.astype(replay.rows[k].dtype), start, 0)
        for k, v in rows.items()
    }
    return Replay(written, replay.added + count)


def sample(replay: Replay, key: jax.Array, count: int) -> dict[str, jax.Array]:
    """`count` rows, each uniformly from those that were added and are still there: {name: [count, ...]}."""
    capacity = len(next(iter(replay.rows.values())))
    index = jax.random.randint(key, (count,), 0, jnp.minimum(replay.added, capacity))
    return {k: v[index] for k, v in replay.rows.items()}

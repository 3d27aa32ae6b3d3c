"""The replay buffer: which rows it keeps, and which it draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.algorithms import replay

ROW = {"x": jax.ShapeDtypeStruct((2,), jnp.float32), "end": jax.ShapeDtypeStruct((), bool)}


def rows(first, count):
    x = jnp.arange(first, first + count, dtype=jnp.float32)
    return {"x": jnp.stack([x, -x], 1), "end": x % 2 == 0}


def test_it_keeps_the_newest_rows_whole():
    buffer = replay.empty(6, ROW)
    for first in range(0, 15, 3):
        buffer = jax.jit(replay.add)(buffer, rows(first, 3))
    assert int(buffer.added) == 15
    assert sorted(buffer.rows["x"][:, 0].tolist()) == [9, 10, 11, 12, 13, 14]
    assert (buffer.rows["x"][:, 1] == -buffer.rows["x"][:, 0]).all()
    assert (buffer.rows["end"] == (buffer.rows["x"][:, 0] % 2 == 0)).all()


def test_it_draws_uniformly_from_what_was_added():
    buffer = replay.add(replay.empty(8, ROW), rows(1, 4))
    drawn = replay.sample(buffer, jax.random.key(0), 4_000)
    values, counts = np.unique(drawn["x"][:, 0], return_counts=True)
    assert values.tolist() == [1, 2, 3, 4]  # of the empty rows none
    assert (np.abs(counts - 1_000) < 4 * np.sqrt(4_000 * 0.25 * 0.75)).all()


def test_rows_that_would_wrap_are_refused():
    with pytest.raises(AssertionError, match="8 rows are no multiple of 3"):
        replay.add(replay.empty(8, ROW), rows(0, 3))

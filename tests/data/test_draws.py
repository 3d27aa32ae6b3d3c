"""What an example draws is its own: it changes with the example, the epoch, the seed and the stream, and with nothing else."""

import jax
import numpy as np

from research.data import draws
from research.data.pipeline import Arrays


def test_the_numbers_are_the_epoch_and_the_index():
    source = draws.Drawn(Arrays({"x": np.arange(5.0)}))
    batch = source.gather(np.array([3, 1]), 7)
    assert len(source) == 5
    assert batch["draw"].tolist() == [[7, 3], [7, 1]] and batch["draw"].dtype == np.int32
    assert batch["x"].tolist() == [3, 1]


def test_a_key_is_of_its_row_alone():
    rows = np.array([[0, 1], [1, 0], [0, 1], [0, 2]], np.int32)
    words = np.asarray(jax.random.key_data(draws.keys(rows, 3, "noise")))
    np.testing.assert_array_equal(words[0], words[2])
    np.testing.assert_array_equal(words[3], np.asarray(jax.random.key_data(draws.keys(rows[3:], 3, "noise")))[0])
    others = [draws.keys(rows[:1], 4, "noise"), draws.keys(rows[:1], 3, "mask")]
    unlike = {tuple(w) for w in words} | {tuple(np.asarray(jax.random.key_data(key))[0]) for key in others}
    assert len(unlike) == 5

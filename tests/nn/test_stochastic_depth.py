import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn.stochastic_depth import DropPath, rates
from research.util.errors import UserError


def test_whole_examples_are_dropped_and_the_mean_stays():
    x = jnp.ones((4000, 2, 3))
    y = np.asarray(DropPath(0.2, train=True).apply({}, x, rngs={"dropout": jax.random.key(0)}))
    kept = y[:, 0, 0] > 0
    assert set(np.unique(y)) == {0, np.float32(1.25)} and (y == y[:, :1, :1]).all()
    assert abs(kept.mean() - 0.8) < 5 * (0.8 * 0.2 / 4000) ** 0.5


def test_without_training_or_a_rate_it_is_the_identity_and_needs_no_key():
    x = jnp.ones((2, 3))
    assert DropPath(0.2, train=False).apply({}, x) is x and DropPath(0.0, train=True).apply({}, x) is x


def test_it_keeps_the_dtype():
    x = jnp.ones((2, 3), jnp.bfloat16)
    assert DropPath(0.5, train=True).apply({}, x, rngs={"dropout": jax.random.key(0)}).dtype == jnp.bfloat16


def test_rates_rise_to_the_last():
    assert rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3]) and rates(0.3, 1) == [0]
    with pytest.raises(UserError, match=r"model.drop_path = 1: from 0 to below 1"):
        rates(1, 4)

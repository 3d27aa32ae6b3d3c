"""The bound on incoming weights: by hand, and that it leaves the rest alone."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.algorithms import max_norm
from research.core.optim import Optimizer
from research.util.errors import UserError


def sgd(rate):
    tx = optax.sgd(rate)
    return Optimizer(tx.init, tx.update, lambda step: rate)


def step(tx, params, grads):
    updates, _ = tx.update(grads, tx.init(params), params)
    return optax.apply_updates(params, updates)


def test_columns_end_inside_the_bound():
    params = {"head": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}, "body": {"kernel": jnp.zeros((2, 3))}}
    towards = jnp.array([[3.0, 0.3, 0.0], [4.0, 0.4, 2.0]])  # norms 5, 0.5, 2
    grads = {"head": {"kernel": -towards, "bias": -jnp.full(3, 9.0)}, "body": {"kernel": -towards}}
    after = step(max_norm.wrap(sgd(1.0), 2.0, "head/kernel$"), params, grads)
    np.testing.assert_allclose(after["head"]["kernel"], [[1.2, 0.3, 0.0], [1.6, 0.4, 2.0]], rtol=1e-6)
    np.testing.assert_array_equal(after["head"]["bias"], np.full(3, 9.0))
    np.testing.assert_array_equal(after["body"]["kernel"], towards)


def test_off_it_is_the_optimizer_itself():
    tx = sgd(0.1)
    assert max_norm.wrap(tx, 0.0, "kernel$") is tx


@pytest.mark.parametrize(
    ("limit", "match", "message"),
    [
        (-1.0, "kernel", "max_norm.limit = -1.0"),
        (3.0, "(", "max_norm.match = '(' is no regular expression"),
        (3.0, "kernal", "max_norm.match = 'kernal' matches no kernel"),
        (3.0, "bias", "max_norm.match = 'bias' matches no kernel"),
    ],
)
def test_mistakes(limit, match, message):
    with pytest.raises(UserError) as found:
        max_norm.wrap(sgd(1.0), limit, match).init({"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)})
    assert message in str(found.value)

"""Optax's own constructors, and a family's, by name from a config."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import config, optim
from research.util.errors import UserError

PARAMS = {"dense": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([0.5])}}
GRADS = {"dense": {"kernel": jnp.array([[0.3, 0.1]]), "bias": jnp.array([-0.2])}}


def make(name, own=None, **changes):
    return optim.make({**config.OPTIM, "name": name, "peak_lr": 0.1, "schedule": "constant", **changes}, 10, own=own)


def three(tx):
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(3):
        updates, state = tx.update(GRADS, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    "name, options, theirs",
    [
        ("adabelief", {"b1": 0.8}, optax.adabelief(0.1, b1=0.8)),
        ("novograd", {}, optax.novograd(0.1)),
        ("signum", {"beta": 0.5}, optax.signum(0.1, beta=0.5)),
        ("scale_by_yogi", {"eps": 1e-2}, optax.chain(optax.scale_by_yogi(eps=1e-2), optax.scale(-0.1))),
    ],
)
def test_a_constructor_of_optax_is_that_one(name, options, theirs):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), three(make(name, options=options)), three(theirs)
    )


def test_decay_is_chained_where_the_constructor_has_no_rate():
    """Sign descent with decay by hand: p - 0.1 (sign(g) + 0.5 p), and no decay of biases."""
    tx = make("scale_by_sign", weight_decay=0.5)
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["dense"]["kernel"], [[-0.1 * (1 + 0.5), -0.1 * (1 - 1.0)]], atol=1e-7)
    np.testing.assert_allclose(updates["dense"]["bias"], [0.1])


def test_a_transformation_and_a_schedule_of_ones_own():
    def halved(learning_rate, times=1):
        return optax.scale_by_learning_rate(lambda t: learning_rate(t) / 2**times)

    own = optim.Own(
        {"halved": halved}, {"stairs": lambda peak, end, steps: lambda t: jnp.where(t < steps // 2, peak, end)}
    )
    tx = make("halved", own, options={"times": 2}, schedule="stairs", end_lr=0.04, warmup=2)
    assert [round(float(tx.schedule(t)), 3) for t in (0, 1, 2, 5, 6, 9)] == [0.0, 0.05, 0.1, 0.1, 0.04, 0.04]
    state, counts = tx.init(PARAMS), []
    for _ in range(4):
        updates, state = tx.update(GRADS, state, PARAMS)
        counts.append(float(updates["dense"]["bias"][0]))
    np.testing.assert_allclose(counts, [0.0, 0.2 * 0.05 / 4, 0.2 * 0.1 / 4, 0.2 * 0.1 / 4], rtol=1e-5)


@pytest.mark.parametrize(
    "name, changes, words",
    [
        ("adabeleif", {}, "there is no optimiser 'adabeleif'; did you mean 'adabelief'?"),
        ("tree", {}, "there is no optimiser 'tree'"),
        ("adabelief", {"options": {"b3": 1}}, "optim.options.b3 = 1 is no option of adabelief; it takes b1, b2"),
        ("adabelief", {"options": {"learning_rate": 1}}, "optim.options.learning_rate = 1 is no option"),
        ("adabelief", {"weight_decay": 0.1}, "optim.weight_decay = 0.1: adabelief has its own"),
        ("adabelief", {"b1": 0.5}, "optim.b1 = 0.5 is no option of adabelief"),
        ("novograd", {"options": {"b1": "x"}}, "."),
        ("adam", {"options": {"b1": 0.5}}, "is for Optax's own names; adam takes optim.b1"),
        ("lbfgs", {}, "optim.name = 'lbfgs' cannot be used in a step: "),
        (
            "scale_by_schedule",
            {},
            "there is no optimiser 'scale_by_schedule'",
        ),  # wants a function, which no config holds
    ],
)
def test_what_cannot_be_is_one_line(name, changes, words):
    with pytest.raises(UserError) as e:
        make(name, **changes).init(PARAMS)
    assert words in str(e.value) and "\n" not in str(e.value)


def test_options_come_from_configs_and_the_command_line():
    words = ["optim.name=adabelief", "optim.options.b1=0.8", "optim.options.nesterov=True"]
    cfg = config.track_reads(config.load("gan/tiny", words))
    assert dict(cfg.optim.options) == {"b1": 0.8, "nesterov": True}
    assert config.merge(config.family_defaults(), optim=dict(options=dict(b1=1))).optim.options.b1 == 1
    assert not [key for key in cfg.unread() if "options" in key]

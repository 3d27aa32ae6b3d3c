"""Who moves when: the order of a GAN's updates, seen from outside."""

import jax
import numpy as np
import optax
import pytest

from research.core import config, mesh, state
from research.run import reopen


def after_a_step(*changes):
    e = reopen.build("gan/tiny", config.load("gan/tiny", changes))
    one = mesh.make_mesh({"data": 1}, jax.devices()[:1])
    with jax.set_mesh(one):
        now = state.create(e.init_fn, e.tx, 0, one)
        batch = next(iter(e.train.on_device(one, 0, 1)))
        now, metrics = e.train_step(now, batch)
    return jax.device_get((now.params, now.opt, metrics))


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize("simultaneous", [True, False])
def test_the_generator_sees_the_discriminator_of(simultaneous):
    """At once: of before the step, whatever its rate. In turn: of after its update."""
    slow, fast = (after_a_step(f"loss.simultaneous={simultaneous}", f"discriminator_lr={lr}")[0] for lr in (1e-6, 0.5))
    assert not equal(slow["discriminator"], fast["discriminator"])
    assert equal(slow["generator"], fast["generator"]) == simultaneous


def test_critic_steps_are_the_critics():
    """Three updates of the critic and one of the generator; the logged rate is the step's."""
    change = ["loss.name=wgan_gp", "loss.critic_steps=3", "optim.schedule=linear", "optim.end_lr=0", "num_steps=10"]
    _, opt, metrics = after_a_step(*change)
    assert [int(optax.tree_utils.tree_get(opt[p][0], "count")) for p in ("discriminator", "generator")] == [3, 1]
    assert metrics["discriminator/learning_rate"][0] == metrics["generator/learning_rate"][0]
    loss, penalty, wasserstein = (metrics[f"discriminator/{name}"][0] for name in ("loss", "penalty", "wasserstein"))
    assert loss == pytest.approx(10 * penalty - wasserstein, rel=1e-6)  # loss.penalty = 10

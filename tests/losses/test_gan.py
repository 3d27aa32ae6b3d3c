"""Adversarial losses by hand, at extremes, and against torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.losses import gan

KEY = jax.random.key(0)


def test_losses_by_hand():
    # D = sigmoid(logit): ln 3 is 3/4, -ln 3 is 1/4.
    real, fake = jnp.log(jnp.array([3.0, 1.0])), jnp.log(jnp.array([1 / 3, 1.0]))
    known = -(np.log(3 / 4) + np.log(1 / 2)) / 2
    np.testing.assert_allclose(gan.discriminator_loss(real, fake), 2 * known, rtol=1e-6)
    unsaturated = -(np.log(1 / 4) + np.log(1 / 2)) / 2
    np.testing.assert_allclose(gan.generator_loss(fake), unsaturated, rtol=1e-6)
    assert gan.critic_loss(jnp.array([1.0, 3.0]), jnp.array([0.0, -1.0])) == -2.5
    assert gan.critic_generator_loss(jnp.array([0.0, -1.0])) == 0.5


def test_hinge_by_hand_and_at_its_corners():
    real, fake = jnp.array([2.0, 1.0, -0.5]), jnp.array([-3.0, -1.0, 0.5])
    assert gan.hinge_loss(real, fake) == (0 + 0 + 1.5) / 3 + (0 + 0 + 1.5) / 3
    slopes = jax.grad(lambda r, f: gan.hinge_loss(r, f), argnums=(0, 1))(real, fake)
    np.testing.assert_allclose(np.stack(slopes)[:, [0, 2]], [[0, -1 / 3], [0, 1 / 3]], rtol=1e-6)
    assert gan.hinge_loss(real.astype(jnp.bfloat16), fake).dtype == jnp.float32


def test_smoothing_is_cross_entropy_of_real_examples_alone():
    real, fake = jnp.log(jnp.array([3.0])), jnp.array([0.0])
    known = -(0.9 * np.log(3 / 4) + 0.1 * np.log(1 / 4)) + np.log(2)
    np.testing.assert_allclose(gan.discriminator_loss(real, fake, 0.1), known, rtol=1e-6)


def test_extreme_and_half_precision_logits_stay_finite():
    sure = jnp.array([1e4])
    assert gan.discriminator_loss(sure, -sure) == 0
    assert gan.discriminator_loss(-sure, sure) == 2e4
    assert jax.grad(lambda s: gan.generator_loss(s))(-sure)[0] == -1
    half = gan.discriminator_loss(jnp.full(3000, 2.0, jnp.bfloat16), jnp.zeros(3000, jnp.bfloat16))
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, np.log1p(np.exp(-2)) + np.log(2), rtol=1e-6)


def test_penalty_of_a_linear_critic():
    real, fake = jax.random.normal(KEY, (2, 5, 3))
    weights = jnp.array([1.0, -2.0, 2.0])
    penalty = gan.gradient_penalty(lambda x: x @ weights, real, fake, KEY)
    np.testing.assert_allclose(penalty, (3 - 1) ** 2, rtol=1e-6)
    shrunk = gan.gradient_penalty(lambda x: x @ weights / 6, real, fake, KEY)
    np.testing.assert_allclose(shrunk, (1 / 2 - 1) ** 2, rtol=1e-6)  # two-sided


def test_penalty_is_taken_between_real_and_fake():
    """f(x) = |x|^2 / 2 has slope |x|: between 0 and v the penalty is E (u |v| - 1)^2, u uniform."""
    n, length = 20_000, 3.0
    real = jnp.zeros((n, 2, 2)).at[:, 0, 1].set(length)
    fake = jnp.zeros_like(real)
    penalty = gan.gradient_penalty(lambda x: (x**2).sum((1, 2)) / 2, real, fake, KEY)
    np.testing.assert_allclose(penalty, length**2 / 3 - length + 1, rtol=0.03)


def test_penalty_of_a_dead_critic_has_finite_gradients():
    def loss(scale):
        return gan.gradient_penalty(lambda x: scale * jax.nn.relu(x).sum(-1), -real, -real, KEY)

    real = jnp.ones((4, 2))
    value, slope = jax.value_and_grad(loss)(1.0)
    assert value == 1 and slope == 0


@pytest.mark.parity
def test_agrees_with_torch():
    """The penalty and its gradient through a small critic; the losses as binary cross-entropy."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    first, last = rng.normal(size=(3, 7)), rng.normal(size=7)
    real, fake = rng.normal(size=(2, 4, 3))
    share = np.asarray(jax.random.uniform(KEY, (4, 1)))

    def critic(weights, x):
        return jnp.tanh(x @ weights) @ jnp.asarray(last, jnp.float32)

    def penalty(weights):
        args = jnp.asarray(real, jnp.float32), jnp.asarray(fake, jnp.float32), KEY
        return gan.gradient_penalty(lambda x: critic(weights, x), *args)

    ours, slope = jax.value_and_grad(penalty)(jnp.asarray(first, jnp.float32))
    weights = torch.tensor(first, requires_grad=True)
    between = torch.tensor(share * real + (1 - share) * fake, requires_grad=True)
    scores = torch.tanh(between @ weights) @ torch.tensor(last)
    (inner,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
    theirs = ((inner.norm(dim=1) - 1) ** 2).mean()
    theirs.backward()
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-5)
    np.testing.assert_allclose(slope, weights.grad.numpy(), rtol=1e-4, atol=1e-5)

    r, f = (torch.tensor(x[:, 0]) for x in (real, fake))
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    np.testing.assert_allclose(
        gan.discriminator_loss(jnp.asarray(real[:, 0]), jnp.asarray(fake[:, 0]), 0.1),
        entropy(r, torch.full_like(r, 0.9)) + entropy(f, torch.zeros_like(f)),
        rtol=1e-5,
    )
    np.testing.assert_allclose(gan.generator_loss(jnp.asarray(fake[:, 0])), entropy(f, torch.ones_like(f)), rtol=1e-5)

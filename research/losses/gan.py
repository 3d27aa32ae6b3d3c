"""Adversarial losses on a discriminator's logits, or a critic's scores.

Each is a mean over B. The logit is that of "real"; log-sigmoids are computed by softplus, so large logits do not overflow.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, PRNGKeyArray

from research.core.arrays import Array


def discriminator_loss(
    real: Float[Array, " B"], fake: Float[Array, " B"], smoothing: float = 0.0
) -> Float32[Array, ""]:
    """-E log D(real) - E log(1 - D(fake)) (Goodfellow et al. 2014, 1406.2661, eq. 1, negated).

    `smoothing` lowers the target of the real examples alone to 1 - smoothing (Salimans et al. 2016,
    1606.03498, section 3.4).

    >>> round(float(discriminator_loss(jnp.zeros(2), jnp.zeros(2))), 4)  # 2 ln 2: D is 1/2 everywhere
    1.3863
    """
    real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
    return (jax.nn.softplus(-real) + smoothing * real).mean() + jax.nn.softplus(fake).mean()


def generator_loss(fake: Float[Array, " B"]) -> Float32[Array, ""]:
    """-E log D(fake): the non-saturating form (Goodfellow et al. 2014, section 3)."""
    return jax.nn.softplus(-fake.astype(jnp.float32)).mean()


def hinge_loss(real: Float[Array, " B"], fake: Float[Array, " B"]) -> Float32[Array, ""]:
    """E max(0, 1 - f(real)) + E max(0, 1 + f(fake)) (Lim & Ye 2017, 1705.02894; Miyato et al. 2018, 1802.05957, section 4).

    The generator's loss beside it is `critic_generator_loss`.

    >>> float(hinge_loss(jnp.array([0.5, 3.0]), jnp.array([-2.0, 1.0])))  # (0.5 + 0) / 2 + (0 + 2) / 2
    1.25
    """
    real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
    return jax.nn.relu(1 - real).mean() + jax.nn.relu(1 + fake).mean()


def critic_loss(real: Float[Array, " B"], fake: Float[Array, " B"]) -> Float32[Array, ""]:
    """E f(fake) - E f(real), an estimate of minus the Wasserstein-1 distance (Arjovsky et al. 2017, 1701.07875)."""
    return fake.astype(jnp.float32).mean() - real.astype(jnp.float32).mean()


def critic_generator_loss(fake: Float[Array, " B"]) -> Float32[Array, ""]:
    """-E f(fake): the generator's loss against a Wasserstein critic, or against `hinge_loss`."""
    return -fake.astype(jnp.float32).mean()


def gradient_penalty(
    critic: Callable[[Float32[Array, " B *shape"]], Float[Array, " B"]],
    real: Float[Array, " B *shape"],
    fake: Float[Array, " B *shape"],
    key: PRNGKeyArray,
) -> Float32[Array, ""]:
    """E (||grad f(x)|| - 1)^2, x uniform between fake and real (Gulrajani et al. 2017, 1704.00028).

    Their eq. 3, two-sided, without its factor of 10. `critic` must
    treat examples independently: no batch normalisation.

    >>> float(gradient_penalty(lambda x: 3 * x[:, 0], jnp.zeros((2, 1)), jnp.ones((2, 1)), jax.random.key(0)))  # (3 - 1)^2
    4.0
    """
    share = jax.random.uniform(key, (real.shape[0],) + (1,) * (real.ndim - 1))
    x = (share * real + (1 - share) * fake).astype(jnp.float32)
    slope = jax.grad(lambda x: critic(x).astype(jnp.float32).sum())(x)
    squared = jnp.square(slope).reshape(len(x), -1).sum(-1)
    # The root has no derivative at zero, which is the gradient of a critic whose units are all dead.
    flat = squared == 0
    norm = jnp.where(flat, 0.0, jnp.sqrt(jnp.where(flat, 1.0, squared)))
    return jnp.square(norm - 1).mean()

"""Losses of several tasks, weighed by scales that are learnt with the network."""

import jax.numpy as jnp
from jaxtyping import Float

from research.core.arrays import Array

FACTORS = {  # of the loss, by its kind: f of s = log variance
    "cross_entropy": lambda s: jnp.exp(-s),
    "squared": lambda s: 0.5 * jnp.exp(-s),
    "absolute": lambda s: jnp.exp(-0.5 * s),
}


def uncertainty(kind: str, log_variance: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """-> (factor, constant): a task's objective is factor * loss + constant (Kendall et al. 2018, 1705.07115).

    s = log variance is learnt, and the constant is s / 2, the logarithm of the standard deviation. The factor is

    squared        exp(-s) / 2, of (y - f)^2: the Gaussian's -log p without log(2 pi) / 2 (their section 3.2)
    cross_entropy  exp(-s), of a softmax whose logits are divided by the variance, as they approximate it there
    absolute       exp(-s / 2), of |y - f|: the Laplace distribution's -log p without log 2, of scale exp(s / 2); not theirs

    >>> factor, constant = uncertainty("squared", jnp.log(4.0))  # 1 / (2 * 4), log 2
    >>> round(float(factor), 4), round(float(constant), 4)
    (0.125, 0.6931)
    """
    return FACTORS[kind](log_variance), 0.5 * log_variance

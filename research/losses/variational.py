"""Terms of the evidence lower bound, in nats, computed in f32. Densities and likelihoods sum over the last axis."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from research.core.arrays import Array


def bernoulli_log_likelihood(logits: Float[Array, "*batch P"], x: Float[Array, "*rows P"]) -> Float32[Array, "*batch"]:
    """log p(x) of pixels x in 0..1 under independent Bernoullis: the sum of x log p + (1 - x) log(1 - p), p = sigmoid(logits).

    >>> round(float(bernoulli_log_likelihood(jnp.zeros(3), jnp.array([0.0, 1.0, 1.0]))), 4)  # -3 ln 2
    -2.0794
    """
    logits, x = logits.astype(jnp.float32), x.astype(jnp.float32)
    return (x * logits - jax.nn.softplus(logits)).sum(-1)


def gaussian_log_density(
    z: Float[Array, "*batch Z"],
    mean: Float[Array, "*rows Z"] | float = 0.0,
    log_std: Float[Array, "*rows Z"] | float = 0.0,
) -> Float32[Array, "*batch"]:
    """log N(z; mean, diag(exp(log_std))^2).

    >>> round(float(gaussian_log_density(jnp.zeros(2))), 4)  # -ln 2 pi
    -1.8379
    """
    z, mean, log_std = (jnp.asarray(a, jnp.float32) for a in (z, mean, log_std))
    return (-0.5 * jnp.square((z - mean) * jnp.exp(-log_std)) - log_std - 0.5 * np.log(2 * np.pi)).sum(-1)


def kl_to_standard_normal(
    mean: Float[Array, "*batch Z"], log_std: Float[Array, "*batch Z"]
) -> Float32[Array, "*batch Z"]:
    """KL(N(mean, exp(log_std)^2) || N(0, 1)) of each latent (Kingma & Welling 2014, 1312.6114, appendix B), not summed.

    >>> kl_to_standard_normal(jnp.array([1.0, 0.0]), jnp.zeros(2)).tolist()  # mean^2 / 2
    [0.5, 0.0]
    """
    mean, log_std = mean.astype(jnp.float32), log_std.astype(jnp.float32)
    return 0.5 * (jnp.square(mean) + jnp.exp(2 * log_std) - 1) - log_std


def log_weights(
    log_likelihood: Float[Array, "*batch"], z: Float[Array, "*batch Z"], mean: Float[Array, "*rows Z"],
    log_std: Float[Array, "*rows Z"],
) -> Float32[Array, "*batch"]:  # fmt: skip
    """log p(x | z) + log p(z) - log q(z | x), of codes z drawn from q = N(mean, diag(exp(log_std))^2); the prior is N(0, 1).

    >>> float(log_weights(jnp.array(-5.0), jnp.zeros(2), jnp.zeros(2), jnp.zeros(2)))  # q is the prior
    -5.0
    """
    return log_likelihood + (gaussian_log_density(z) - gaussian_log_density(z, mean, log_std))


def importance_bound(log_weights: Float[Array, "*batch K"]) -> Float32[Array, "*batch"]:
    """log 1/K sum w_k, a bound of log p(x) from K samples (Burda et al. 2016, 1509.00519, eq. 8).

    w_k = p(x | z_k) p(z_k) / q(z_k | x). With K = 1 it is a sample of the evidence lower bound.

    >>> round(float(importance_bound(jnp.log(jnp.array([1.0, 3.0])))), 4)  # ln 2
    0.6931
    """
    log_weights = log_weights.astype(jnp.float32)
    return jax.nn.logsumexp(log_weights, axis=-1) - np.log(log_weights.shape[-1])

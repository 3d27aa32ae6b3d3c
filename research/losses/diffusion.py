"""Denoising diffusion's loss: the squared error of what a network predicts of a noisy picture, and its weights."""

import jax.numpy as jnp
from jaxtyping import Float, Float32

from research.core.arrays import Array


def squared_error(prediction: Float[Array, " B *shape"], target: Float[Array, " B *shape"]) -> Float32[Array, " B"]:
    """The mean over a picture's values: the simple loss of Ho et al. 2020 (2006.11239, eq. 14), in f32.

    >>> squared_error(jnp.zeros((1, 2)), jnp.array([[1.0, 3.0]])).tolist()
    [5.0]
    """
    error = jnp.square(prediction.astype(jnp.float32) - target.astype(jnp.float32))
    return error.reshape(len(error), -1).mean(-1)


def min_snr_weights(signal: Float[Array, "*batch"], of: str, limit: float) -> Float32[Array, "*batch"]:
    """Weights of the squared error of a predicted "noise", "picture" or "velocity" (Hang et al. 2023, 2303.09556, section 3.4).

    Each is that of a predicted picture's error weighted by min(SNR, limit), where SNR = signal / (1 - signal). The paper's limit
    is 5. The noise at signal 1/2, an SNR of 1, has weight 1:

    >>> [round(weight, 3) for weight in min_snr_weights(jnp.array([0.5, 0.9]), "noise", 5.0).tolist()]  # min(9, 5) / 9
    [1.0, 0.556]
    """
    ratio = signal.astype(jnp.float32) / (1 - signal.astype(jnp.float32))
    return jnp.minimum(ratio, limit) / {"picture": 1.0, "noise": ratio, "velocity": ratio + 1}[of]

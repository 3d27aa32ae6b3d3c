"""Diffusion's weights against the formulas of their paper."""

import jax.numpy as jnp
import numpy as np
import pytest

from research.generation import diffusion
from research.losses.diffusion import min_snr_weights, squared_error


def test_the_mean_is_a_pictures_own():
    prediction, target = jnp.zeros((2, 2, 2, 1)), jnp.stack([jnp.full((2, 2, 1), 3.0), jnp.eye(2)[..., None]])
    assert squared_error(prediction, target).tolist() == [9, 0.5]


@pytest.mark.parametrize("of", diffusion.PREDICTIONS)
def test_the_weight_of_what_is_predicted_is_min_snr_of_the_pictures_error(of):
    """Whatever is predicted: the weighted error is min(SNR, 5) times the error of the picture that the prediction amounts to."""
    rng = np.random.default_rng(0)
    signal = np.array([0.05, 0.4, 0.7, 0.95], np.float32)
    noisy, one, other = rng.normal(size=(3, 4, 6)).astype(np.float32)
    pictures = [diffusion.to_picture(prediction, noisy, signal, of) for prediction in (one, other)]
    want = np.minimum(signal / (1 - signal), 5) * squared_error(*pictures)
    np.testing.assert_allclose(min_snr_weights(signal, of, 5.0) * squared_error(one, other), want, rtol=1e-4)

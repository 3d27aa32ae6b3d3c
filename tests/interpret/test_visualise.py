"""Feature visualisation: scores whose best picture is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.interpret.visualise import visualise

RNG = np.random.default_rng(0)


def test_the_best_picture_of_a_linear_score_is_its_weights_sign():
    weights = RNG.normal(size=(2, 8, 6, 3)).astype(np.float32)

    def score(image):
        return (image * weights).sum((1, 2, 3))

    got = visualise(score, weights.shape, jax.random.key(0), steps=400, rate=0.3, shift=0)
    best = np.maximum(weights, 0).sum((1, 2, 3))
    assert (got.after > 0.95 * best).all() and (got.after <= best).all()
    assert (got.before < 0.6 * best).all()
    assert ((np.asarray(got.image) > 0.5) == (weights > 0)).mean() > 0.97
    assert got.image.min() >= 0 and got.image.max() <= 1


def test_with_shifts_the_picture_is_one_that_may_be_anywhere():
    """The score is one pixel's: alone, that pixel is white; shifted by up to two pixels, all 25 around it are."""

    def score(image):
        return image[:, 4, 4, 0] - 0.5 * image.mean((1, 2, 3))

    fixed = visualise(score, (1, 9, 9, 1), jax.random.key(0), steps=300, rate=0.1, shift=0).image[0, :, :, 0]
    moved = visualise(score, (1, 9, 9, 1), jax.random.key(0), steps=300, rate=0.1, shift=2).image[0, :, :, 0]
    assert fixed[4, 4] > 0.9 and moved[2:7, 2:7].min() > 0.7
    assert moved[2:7, 2:7].mean() > fixed[2:7, 2:7].mean() + 0.3


def test_rows_are_independent():
    def score(image):
        return jnp.stack([image[0].mean(), -image[1].mean()])

    both = visualise(score, (2, 4, 4, 1), jax.random.key(0), steps=150)
    assert both.image[0].mean() > 0.7 and both.image[1].mean() < 0.3
    assert both.after[0] == pytest.approx(float(both.image[0].mean()), abs=1e-5)

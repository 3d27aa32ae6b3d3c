"""Losses over pixels: values by hand, weights, void."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.defaults import VOID
from research.losses.segmentation import pixel_cross_entropy, soft_dice


def test_cross_entropy_is_the_weighted_sum_by_hand():
    """Probabilities 3/4 and 1/4: a pixel of class 0 costs ln 4/3, one of class 1 ln 4."""
    logits = jnp.broadcast_to(jnp.log(jnp.array([3.0, 1.0])), (1, 2, 2, 2))
    labels, weights = jnp.array([[[0, 1], [1, VOID]]]), jnp.array([[[1.0, 2.0], [0.5, 9.0]]])
    loss, weight = pixel_cross_entropy(logits, labels)
    assert float(loss) == pytest.approx(np.log(4 / 3) + 2 * np.log(4)) and float(weight) == 3
    loss, weight = pixel_cross_entropy(logits, labels, weights)
    assert float(loss) == pytest.approx(np.log(4 / 3) + 2.5 * np.log(4)) and float(weight) == 3.5


def test_dice_by_hand():
    """Probabilities 1/2 at two pixels, one of each class: 1 - 2 (1/2) / (2 (1/4) + 1) = 1/3 of each class."""
    got = soft_dice(jnp.zeros((1, 1, 3, 2)), jnp.array([[[0, 1, VOID]]]))
    assert got.tolist() == pytest.approx([1 / 3])


def test_a_class_that_a_picture_lacks_does_not_count():
    """Sure and right has Dice 0; a third class nowhere changes nothing; all void is 0."""
    labels = jnp.array([[[0, 1]], [[VOID, VOID]]])
    assert soft_dice(50 * jax.nn.one_hot(labels, 3), labels).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_a_void_pixel_has_no_gradient():
    labels = jnp.array([[[0, VOID]]])
    logits = jnp.array([[[[1.0, 2.0], [3.0, -1.0]]]])
    for loss in (lambda x: pixel_cross_entropy(x, labels)[0], lambda x: soft_dice(x, labels).sum()):
        gradient = jax.grad(loss)(logits)
        assert abs(gradient[0, 0, 0]).min() > 0 and abs(gradient[0, 0, 1]).max() == 0

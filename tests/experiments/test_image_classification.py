"""What the family's loss and prediction do besides: auxiliary heads, and views of a picture."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.image_classification import train
from experiments.image_classification.configs.base import base
from research.data.images import augment
from research.util.errors import UserError

IMAGES = jnp.asarray(np.random.default_rng(0).random((3, 4, 4, 1)), jnp.float32)
LABELS = jnp.array([0, 1, 1])


def logits(variables, image, scale=1.0):
    """Two classes: the left and the right half of the picture."""
    halves = jnp.stack([image[:, :, :2].mean((1, 2, 3)), image[:, :, 2:].mean((1, 2, 3))], -1)
    return scale * variables["params"]["weight"] * halves


VARIABLES = {"params": {"weight": jnp.float32(5.0)}}


def test_auxiliary_heads_are_further_terms_and_no_metric():
    def apply(variables, image, train, mutable, rngs):
        return (logits(variables, image), [logits(variables, image, 2.0), logits(variables, image, 0.0)]), {}

    model = SimpleNamespace(apply=apply, auxiliary=0.3)
    batch = {"image": IMAGES, "label": LABELS}
    make = partial(train.loss, augment=augment.make({}, 2))
    terms, (metrics, _) = make(model, VARIABLES["params"], {}, batch, jax.random.key(0))
    assert terms.keys() == {"loss", "auxiliary1", "auxiliary2"} and metrics.keys() == {"loss", "accuracy"}
    value, weight, coefficient = terms["auxiliary2"]  # of equal logits
    assert (float(value), float(weight), coefficient) == (pytest.approx(3 * np.log(2)), 3, 0.3)
    assert terms["loss"][2] == 1 and float(metrics["loss"][0]) == float(terms["loss"][0])


def test_views_are_averaged():
    model = SimpleNamespace(apply=logits)
    one, two = (
        train.predict(model, VARIABLES, {"image": IMAGES}, views=augment.make_views({"views": views}, 2))
        for views in (None, "flip")
    )
    np.testing.assert_allclose(one["probabilities"], jax.nn.softmax(logits(VARIABLES, IMAGES)), rtol=1e-6)
    # A mirrored picture has the other class's logit: the mean of p and 1 - p is a half.
    np.testing.assert_allclose(two["probabilities"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(two["logits"], np.log(0.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"augment": {"mean": (0.1, 0.2, 0.3)}}, "augment.mean = .* has 3 numbers; the pictures have channels: 1"),
        ({"model": {"name": "vit"}}, "model.patch = 16: pictures of 8 x 8 pixels are no whole number of patches"),
        ({"model": {"name": "vit", "patch": 8}, "augment": {"pad": 2}}, "pictures of 12 x 12 pixels"),
        ({"augment": {"rand_operations": ("turn",)}}, "augment.rand_operations: 'turn' is unknown"),
        ({"augment": {"mixup": -1.0}}, "augment.mixup is -1.0"),
    ],
)
def test_what_does_not_fit_the_pictures_is_named(changes, words):
    with pytest.raises(UserError, match=words):
        train.build(base(num_steps=10, **changes))

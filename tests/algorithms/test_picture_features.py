"""The networks that compare pictures: the judge's layers, and the first layers of the published EfficientNet-Lite0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from research.algorithms import picture_features, sample_metrics
from research.data.images import labelled
from research.interop import weights
from research.models.vision.efficientnet import EfficientNetLite
from research.util.errors import UserError


def test_the_classifiers_layers_make_its_logits(monkeypatch):
    """Its second layer, pooled by hand and passed through the two dense layers, gives what the whole network gives."""
    monkeypatch.setattr(sample_metrics, "JUDGE_STEPS", 2)
    images = labelled.load({"source": "digits"})
    x = images.train.gather(np.arange(3), 0)["image"]
    first, second = picture_features.make("classifier", images)(x)
    assert first.shape == (3, 8, 8, 32) and second.shape == (3, 4, 4, 64) and first.min() == second.min() == 0
    model = sample_metrics.judge(images)
    params = sample_metrics.trained_judge(model, images)
    pooled = second.reshape(3, 2, 2, 2, 2, 64).mean((2, 4)).reshape(3, -1)
    hidden = jax.nn.relu(pooled @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    logits = hidden @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(model.apply({"params": params}, x), logits, atol=1e-4)


def test_efficientnets_layers_are_read_by_its_name(monkeypatch):
    """Of random values in the place of the published ones: grey is a colour of three equal parts, and no later layer is used."""
    published = jax.jit(EfficientNetLite(1000).init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    arrays = flatten_dict(published, sep="/")
    monkeypatch.setattr(weights, "read", lambda name, model: weights.Source(name, arrays))
    network = picture_features.make("efficientnet_lite0", None)
    grey = np.random.default_rng(0).random((2, 32, 32, 1), np.float32)
    layers = network(grey)
    assert [x.shape for x in layers] == [(2, 16, 16, 16), (2, 8, 8, 24), (2, 4, 4, 40)]
    for a, b in zip(layers, network(np.repeat(grey, 3, -1)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UserError, match="features = 'classifier' needs pictures that have classes"):
        picture_features.make("classifier", None)
    with pytest.raises(UserError, match="features = 'vgg'"):
        picture_features.make("vgg", None)

"""Segmentation: weights of pixels, terms by hand, tiles in a whole experiment, what comes out, bad input."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.segmentation import train
from experiments.segmentation.configs import tiny
from experiments.segmentation.data import Weighted
from research.core import config
from research.data.images.border_weights import border_weights, regions
from research.data.pipeline import Arrays
from research.util.errors import UserError


def build(*changes):
    cfg = tiny.get_config()
    for change in changes:
        config.override(cfg, *change.split("=", 1))
    return train.build(cfg)


class Constant:
    """A network whose logits are the same everywhere."""

    def __init__(self, scores):
        self.scores = jnp.array(scores)

    def apply(self, variables, image, train, mutable):
        return jnp.broadcast_to(self.scores, (*image.shape[:3], len(self.scores))), {}


def test_the_terms_by_hand():
    """Two classes of probability 1/2: ln 2 of each pixel, and Dice 1/3 for a pixel of each class; void counts nowhere."""
    batch = {
        "image": jnp.zeros((1, 1, 3, 1)),
        "label": jnp.array([[[0, 1, 255]]]),
        "weight": jnp.array([[[1.0, 3.0, 9.0]]]),
    }
    terms, (metrics, _) = train.loss(
        Constant([0.0, 0.0]), {}, {}, batch, jax.random.key(0), change=lambda key, batch: batch, dice=2.0
    )
    assert [float(x) for x in terms["loss"]] == pytest.approx([4 * np.log(2), 4, 1])
    assert [float(x) for x in terms["dice"]] == pytest.approx([1 / 3, 1, 2])
    assert float(metrics["loss"][0]) == pytest.approx(np.log(2) + 2 / 3)
    assert [float(x) for x in metrics["accuracy"]] == [1, 2]


def test_weights_are_the_classes_and_on_top_the_borders():
    label = np.array([[[1, 0, 0, 1], [1, 0, 255, 1]]], np.int32)
    source = Weighted(Arrays({"label": label}), np.array([2.0, 0.5]), border=10, sigma=2)
    got = source.gather(np.array([0, 0]), 0)["weight"]
    classes = np.array([[0.5, 2, 2, 0.5], [0.5, 2, 0, 0.5]])
    np.testing.assert_allclose(
        got, np.broadcast_to(classes + border_weights(regions(label[0]), 10, 2), (2, 2, 4)), rtol=1e-6
    )


def test_a_picture_of_any_size_becomes_a_map_of_its_size_that_can_be_trained_with():
    e = build("model.norm=none", "tile=34")  # a reach of 10: margins of 10, and 14 pixels inside
    variables = jax.jit(e.init_fn)(jax.random.key(0))
    value = Image.fromarray(np.random.default_rng(0).integers(0, 256, (41, 55), np.uint8).astype(np.uint8))
    inputs = e.predictor.codec.encode(value)
    outputs = jax.jit(e.predictor.fn)(variables, inputs)
    whole = jax.jit(partial(train.predict, e.model))(variables, inputs)
    np.testing.assert_allclose(outputs["probabilities"], whole["probabilities"], atol=1e-5)
    decoded = e.predictor.codec.decode(outputs)
    assert decoded["size"] == [41, 55] and sum(decoded["shares"].values()) == pytest.approx(1, abs=1e-3)
    drawn = e.predictor.codec.draw(value, decoded)
    assert drawn.mode == "P"
    labels = np.asarray(whole["probabilities"])[0].argmax(-1)
    np.testing.assert_array_equal(np.asarray(drawn), labels)

    # One object is larger than what a tile keeps, 14 pixels a side, and has a single number.
    common = e.data.classes[np.bincount(labels.ravel()).argmax()]
    codec = dataclasses.replace(e.predictor.codec, objects=common)
    tiled, one = codec.decode(outputs), codec.decode(whole)
    assert tiled["object_runs"] == one["object_runs"] and len(one["objects"]) > 1
    assert max(max(each["bbox"][2:]) for each in one["objects"]) > 14


@pytest.mark.parametrize(
    "change, words",
    [
        ("data.size=15", "augment.crop = 0: the network trains on 15 x 15 pixels; set it to a multiple of 2"),
        ("augment.crop=7", "augment.crop = 7: the network trains on 7 x 7 pixels"),
        ("loss.dice=-1.0", "loss.dice = -1.0"),
        ("data.border=-1.0", "data.border = -1.0"),
        ("model.norm=group tile=32", "tile = 32: a group norm's statistics are of the whole picture"),
    ],
)
def test_what_means_nothing_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        build(*change.split())


def test_a_tile_that_would_show_seams_is_refused():
    with pytest.raises(UserError, match="tile = 16: a multiple of 2, at least 22"):
        build("tile=16")

"""Stages and strides of the detectors' backbones."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax.traverse_util import flatten_dict

from experiments.detection import backbone, detr, faster_rcnn, grid, ssd, train
from research.core import config
from research.models.vision.efficientnet import EfficientNetLite, Features
from research.util.errors import UserError

PICTURES = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)


def shapes(module):
    """-> the shapes of the outputs, and of the variables by path."""
    variables = jax.eval_shape(partial(module.init, train=False), jax.random.key(0), PICTURES)
    out = jax.eval_shape(partial(module.apply, train=False), variables, PICTURES)
    return out, {"/".join(path): x.shape for path, x in flatten_dict(variables).items()}


def test_stages_of_efficientnet_are_its_features_before_each_stride():
    out, ours = shapes(Features())
    assert [x.shape for x in out[1:]] == [(2, 16, 24, 24), (2, 8, 12, 40), (2, 4, 6, 112), (2, 2, 3, 320)]
    _, published = shapes(EfficientNetLite(1000))
    ends = ("params/top", "params/head", "batch_stats/top")
    assert ours == {path: shape for path, shape in published.items() if not path.startswith(ends)}


@pytest.mark.parametrize("name", backbone.NAMES)
def test_detectors_lay_as_many_boxes_as_their_backbones_have_cells(name):
    shape, levels = PICTURES.shape[1:3], 3
    model = ssd.SSD(2, backbone=name, levels=levels)
    assert backbone.strides(model) == [8, 16, 32]
    (classes, _), _ = shapes(model)
    assert classes.shape == (2, len(ssd.default_boxes(model, shape)), 3)
    model = grid.Grid(2, backbone=name, levels=levels)
    (classes, _), _ = shapes(model)
    assert classes.shape == (2, len(grid.points(model, shape)[0]), 2)
    model = faster_rcnn.FasterRCNN(2, backbone=name, levels=levels)
    assert shapes(model)[0].objects.shape == (2, len(faster_rcnn.lay(model, shape)))
    assert shapes(detr.DETR(2, backbone=name, levels=levels))[0][0].shape == (3, 2, 50, 3)


@pytest.mark.parametrize("name", backbone.NAMES)
def test_grad_cam_reads_the_stages_and_no_head(name):
    """By the names of layers: the stem of the small network is left out, as it was."""
    _, variables = shapes(ssd.SSD(2, backbone=name, levels=3))
    layers = {path.split("/")[1] for path in variables if path.startswith("params/")}
    read = {layer for layer in layers if re.search(backbone.FEATURES, layer)}
    assert read and layers - read == {"classes0", "classes1", "classes2", "offsets0", "offsets1", "offsets2"} | (
        {"stem"} if name == "residual" else set()
    )


@pytest.mark.parametrize(("model", "fault"), [
    (dict(backbone="efficientnet"), "model.backbone = 'efficientnet'; did you mean 'efficientnet_lite0'"),
    (dict(backbone="efficientnet_lite0"), "model.backbone = 'efficientnet_lite0' reads three channels: set data.channels=3"),
    (dict(backbone="efficientnet_lite0", levels=5), "from 1 to 4, the stages of model.backbone = 'efficientnet_lite0'"),
])  # fmt: skip
def test_bad_values(model, fault):
    changes = [f"model.{key}={value}" for key, value in model.items()]
    with pytest.raises(UserError, match=fault):
        train.build(config.load("detection/digits_ssd", changes))

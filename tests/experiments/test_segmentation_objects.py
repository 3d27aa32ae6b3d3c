"""Objects of a class: regions, a watershed from markers, what prediction and an evaluation say of them."""

import json
import types

import jax
import numpy as np
import pytest

from experiments.segmentation import train
from experiments.segmentation.configs import tiny
from experiments.segmentation.data import LabelMap, Weighted
from experiments.segmentation.evaluation import ObjectEvaluation
from experiments.segmentation.objects import describe, separate
from research.core import config, evaluation
from research.core.mesh import make_mesh
from research.data import codecs
from research.data.images.border_weights import border_weights
from research.data.pipeline import Arrays, EvalBatches
from research.util.errors import UserError

BRIDGE = np.array(
    [[0.9, 0.95, 0.6, 0.55, 0.6, 0.95, 0.9, 0.2, 0.6, 0.6]]
)  # two joined by a bridge, and one that is faint
CODEC = LabelMap((1, 10, 1), ("a", "b"), objects="b", markers=0.8)


def outputs(probability):
    return {"probabilities": np.stack([1 - probability, probability], -1)[None]}


def build(*changes):
    cfg = tiny.get_config()
    for change in changes:
        config.override(cfg, *change.split("=", 1))
    return train.build(cfg)


def test_a_watershed_parts_what_a_bridge_joins():
    inside = BRIDGE > 0.5
    assert separate(BRIDGE, inside).tolist() == [[1] * 7 + [0, 2, 2]]
    parted = separate(BRIDGE, inside, 0.8)[0]
    assert parted[[0, 1, 2]].tolist() == [1, 1, 1] and parted[[4, 5, 6]].tolist() == [2, 2, 2] and parted[3] in (1, 2)
    assert parted[7:].tolist() == [0, 0, 0]  # the ground, and a region without a marker
    np.testing.assert_array_equal(separate(BRIDGE, inside, 0.5), separate(BRIDGE, inside))


def test_objects_are_described_by_hand():
    """An L of three pixels, whose box has four, and a column of two."""
    numbers = np.array([[0, 1, 0, 2], [0, 1, 1, 2]], np.int32)
    probability = np.array([[0, 0.9, 0, 0.6], [0, 0.8, 0.7, 0.7]])
    assert describe(numbers, probability, "cell") == [
        {"number": 1, "label": "cell", "bbox": [1, 0, 2, 2], "area": 3, "probability": 0.8},
        {"number": 2, "label": "cell", "bbox": [3, 0, 1, 2], "area": 2, "probability": 0.65},
    ]
    assert describe(np.zeros((2, 2), np.int32), np.zeros((2, 2)), "cell") == []
    with pytest.raises(UserError, match="65,536 objects of cell, more than 65,535: set markers"):
        describe(np.arange(256 * 256 + 1, dtype=np.int32)[None], np.ones((1, 256 * 256 + 1)), "cell")


def test_prediction_gives_the_objects_and_a_bundles_codec_does_too():
    codec = codecs.from_json(json.loads(json.dumps(codecs.to_json(CODEC))))
    decoded = codec.decode(outputs(BRIDGE))
    assert [each["number"] for each in decoded["objects"]] == [1, 2]
    assert sum(each["area"] for each in decoded["objects"]) == 7
    picture = codec.further_pictures(None, decoded)["objects"]
    assert picture.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(picture), separate(BRIDGE, BRIDGE > 0.5, 0.8))
    before = codecs.from_json({"$codec": "label_map", "shape": [1, 10, 1], "classes": ["a", "b"]})  # of an older bundle
    decoded = before.decode(outputs(BRIDGE))
    assert set(decoded) == {"shares", "size", "runs"} and before.further_pictures(None, decoded) == {}


def measured(label, numbers, markers):
    """What the evaluator says of one picture."""
    source = Arrays({"image": BRIDGE[None, ..., None], "label": label[None]})
    data = types.SimpleNamespace(evals={"valid": EvalBatches(source, 2)}, objects=numbers)
    probabilities = np.repeat(outputs(BRIDGE)["probabilities"], 2, 0)
    evaluate = ObjectEvaluation(lambda state, batch: ({}, probabilities), dict, data, 1, markers)
    return evaluate(None, "valid", None, lambda: None).values


@pytest.mark.parametrize("markers, ap50, rq", [(None, 0, 0), (0.8, 1, 1)])
def test_an_evaluation_measures_objects(markers, ap50, rq):
    """The truth is both sides of the bridge; merged, the regions' IoU is 3/7. Void is not looked at."""
    values = measured(np.array([[1, 1, 1, 0, 1, 1, 1, 0, 255, 255]]), {}, markers)
    assert (values["ap50"], values["rq"]) == (ap50, rq)
    assert values["adapted_rand_error"] == pytest.approx(0 if markers else 1 - 2 * 18 / (36 + 18))


def test_true_objects_are_those_of_the_numbers():
    """Two that touch, 4 and 3 pixels: found as one of 7, whose IoU with the larger is 4/7; a third is found alike."""
    numbers = {"valid": np.array([[[1, 1, 1, 1, 2, 2, 2, 0, 3, 3]]], np.uint16)}
    values = measured((numbers["valid"][0] > 0).astype(int), numbers, None)
    assert values["ap50"] == pytest.approx(2 / 3)  # two of three true, and both of two predicted
    assert values["sq"] == pytest.approx((4 / 7 + 1) / 2)
    empty = measured(np.zeros((1, 10), int), {"valid": np.zeros((1, 1, 10), np.uint16)}, None)
    assert empty["ap50"] == 0 and np.isnan(empty["adapted_rand_error"])


def test_with_objects_a_picture_is_predicted_once_and_the_other_metrics_are_the_same(tmp_path):
    plain, e = build(), build("objects=1")
    source, gathered = e.evals["valid"].source, []
    gather = source.gather
    source.gather = lambda indices, epoch=0: gathered.extend(indices) or gather(indices, epoch)
    state = types.SimpleNamespace(variables=jax.jit(e.init_fn)(jax.random.key(0)))
    one_device = make_mesh({"data": 1}, jax.devices()[:1])
    before, values = (evaluation.measure(each, state, "valid", tmp_path, one_device).values for each in (plain, e))
    assert len(gathered) == 112 and set(gathered) == set(range(100))  # two batches of 56, of which the second is padded
    assert before.items() <= values.items() and "ap50" in values


def test_border_weights_are_of_the_numbers():
    numbers = np.array([[[1, 1, 2, 2]]], np.uint16)
    source = Weighted(Arrays({"label": np.ones((1, 1, 4), np.int32)}), np.ones(2), border=10, sigma=1, objects=numbers)
    np.testing.assert_allclose(source.gather(np.array([0]), 0)["weight"][0], 1 + border_weights(numbers[0], 10, 1))


@pytest.mark.parametrize(
    "objects, markers, words",
    [("grund", None, "objects = 'grund': no class"), (None, 0.5, "markers = 0.5"), ("ground", 1.0, "markers = 1.0")],
)
def test_what_means_nothing_is_refused(objects, markers, words):
    cfg = tiny.get_config()
    cfg.objects, cfg.markers = objects, markers
    with pytest.raises(UserError, match=words):
        train.build(cfg)


def test_of_numbered_objects_the_ground_is_none():
    e = build("data.source=discs", "objects=object")
    assert e.predictor.codec.objects == "object" and "not measured" not in e.data.report[-1]
    assert build("data.source=discs").data.report[-1] == "objects  are not measured: set objects=object"
    with pytest.raises(UserError, match="objects = 'ground': no class; known: object"):
        build("data.source=discs", "objects=ground")

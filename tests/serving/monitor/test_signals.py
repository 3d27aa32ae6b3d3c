"""The numbers that a request leaves, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from research.serving.monitor import signals

TEXT = SimpleNamespace(
    inputs={"tokens": (("b", "t"), "int32"), "length": (("b",), "int32")},
    encoder=SimpleNamespace(tokenizer=SimpleNamespace(special={"unk": 1, "pad": 0})),
)
PICTURE = SimpleNamespace(inputs={"image": (("b", 4, 5, 1), "float32")})


def test_a_text_leaves_its_length_unknown_share_and_histogram_without_padding():
    tokens = np.array([[1, 7, 1, 9, 0, 0], [7, 7, 7, 7, 7, 100_000]], np.int32)
    found = signals.of_inputs(TEXT, {"tokens": tokens, "length": np.array([4, 6], np.int32)})
    assert found["tokens length"].tolist() == [[4], [6]]
    assert found["tokens unknown"].tolist() == [[0.5], [0]]
    histogram = found["tokens histogram"]
    assert (histogram[0, [0, 1, 7, 9]].tolist(), histogram.sum(1).tolist()) == ([0, 2, 1, 1], [4, 6])
    assert histogram[1, 7] >= 5


def test_a_mask_tells_the_length_of_a_text():
    codec = SimpleNamespace(inputs={"source": (("b", "s"), "int32"), "source_mask": (("b", "s"), "float32")})
    inputs = {"source": np.array([[5, 6, 0]]), "source_mask": np.array([[1.0, 1, 0]])}
    assert signals.of_inputs(codec, inputs)["source length"].tolist() == [[2]]


def test_a_picture_leaves_its_moments():
    x = np.random.default_rng(0).random((3, 4, 5, 1)).astype(np.float32) ** 2
    found = signals.of_inputs(PICTURE, {"image": x})
    flat = x.reshape(3, -1)
    assert found["image brightness"][:, 0] == pytest.approx(flat.mean(1))
    assert found["image contrast"][:, 0] == pytest.approx(flat.std(1))
    assert found["image skewness"][:, 0] == pytest.approx(stats.skew(flat, axis=1), abs=1e-5)
    constant = signals.of_inputs(PICTURE, {"image": np.full((1, 4, 5, 1), 0.5, np.float32)})
    assert constant["image sharpness"][0, 0] == 0 and np.isfinite(constant["image skewness"]).all()


def test_the_columns_of_a_table_are_compared_one_by_one_and_together():
    codec = SimpleNamespace(inputs={"x": (("b", 2), "float32")})
    found = signals.of_inputs(codec, {"x": np.array([[1, 2], [3, 4]], np.float32)})
    assert found["x 1 column"].tolist() == [[2], [4]]
    assert found["x columns"].shape == (2, 2)


def test_outputs_leave_confidence_and_class():
    found = signals.of_outputs({"probabilities": np.array([[0.1, 0.9], [0.75, 0.25]], np.float32)})
    assert found["confidence"][:, 0] == pytest.approx([0.9, 0.75])
    assert found["class"].tolist() == [[0, 1], [1, 0]]
    assert signals.of_outputs({"logits": np.zeros((1, 2))}) == {}


def test_every_signal_has_a_statistic():
    found = signals.of_inputs(PICTURE, {"image": np.zeros((1, 4, 5, 1), np.float32)})
    assert {name.split()[-1] for name in found} <= signals.STATISTIC.keys()

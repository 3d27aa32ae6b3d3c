from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from research.core.experiment import Predictor
from research.serving.programs import Programs
from research.util.errors import UserError


def predictor(fn, inputs, *constraints):
    return Predictor(fn, SimpleNamespace(inputs=inputs, constraints=constraints))


def masked_mean(variables, inputs):
    inside = jnp.arange(inputs["x"].shape[1]) < inputs["length"][:, None]
    total = jnp.sum(inputs["x"] * inside, 1)
    return {"mean": variables["scale"] * total / inputs["length"], "double": 2 * inputs["x"]}


def plain_mean(variables, inputs):
    return {"mean": inputs["x"].mean(1)}


ROWS = {"x": (("b", "t"), "float32"), "length": (("b",), "int32")}
FIXED = {"x": (("b", 3), "float32")}


def row(*values):
    return {"x": np.array([values], np.float32), "length": np.array([len(values)], np.int32)}


def test_open_lengths_are_padded_where_that_changes_no_output_and_cut_again():
    programs = Programs(predictor(masked_mean, ROWS, "t <= 40"), {"scale": jnp.float32(10)}, max_batch=4)
    assert (programs.pads, programs.lengths, programs.compile()) == (True, [16, 32, 40], 9)
    inputs = row(1.0, 2.0, 6.0)
    assert programs.group(inputs) == programs.group(row(1.0)) == ((), (16,))
    outputs = programs.cut(programs(inputs), inputs)
    assert outputs["mean"].tolist() == [30.0]
    assert outputs["double"].tolist() == [[2.0, 4.0, 12.0]]


def test_a_length_that_would_change_the_outputs_is_kept():
    programs = Programs(predictor(plain_mean, {"x": (("b", "t"), "float32")}, "t <= 40"), {})
    assert (programs.pads, programs.lengths, programs.compile()) == (False, [], 0)
    inputs = {"x": np.array([[1.0, 2.0, 6.0]], np.float32)}
    assert programs.cut(programs(inputs), inputs)["mean"].tolist() == [3.0]


def test_no_shape_is_traced_after_compile():
    traced = []

    def fn(variables, inputs):
        traced.append(inputs["x"].shape)
        return {"y": inputs["x"]}

    programs = Programs(predictor(fn, FIXED), {}, max_batch=6)
    assert programs.compile() == 4  # 1, 2, 4 and 6 rows
    before = len(traced)
    for rows in range(1, 7):
        assert programs({"x": np.full((rows, 3), rows, np.float32)})["y"].tolist() == [[rows] * 3] * rows
    assert len(traced) == before


@pytest.mark.parametrize(("inputs", "message"), [
    ({}, "input 'x' is missing"),
    ({"x": np.zeros((1, 3), np.float32), "y": np.zeros(1)}, "there is no input 'y'; the inputs are x"),
    ({"x": np.zeros((1, 3))}, r"input 'x' is float64\[1, 3\]: want float32\[b, 3\]"),
    ({"x": np.zeros((1, 4), np.float32)}, r"float32\[1, 4\]: want float32\[b, 3\]"),
    ({"x": np.zeros(3, np.float32)}, r"float32\[3\]: want"),
    ({"x": np.full((1, 3), np.nan, np.float32)}, "'x' has a number that is not finite"),
    ({"x": np.zeros((3, 3), np.float32)}, "3 rows: want 1 to 2"),
    ({"x": np.zeros((0, 3), np.float32)}, "b is from 1"),
])  # fmt: skip
def test_what_a_predictor_does_not_take_is_named(inputs, message):
    with pytest.raises(UserError, match=message):
        Programs(predictor(plain_mean, FIXED), {}, max_batch=2).check(inputs)


def test_lengths_beyond_the_constraint_and_batches_of_none_are_refused():
    programs = Programs(predictor(masked_mean, ROWS, "t <= 4"), {"scale": jnp.float32(1)})
    with pytest.raises(UserError, match="t is from 1 to 4"):
        programs.check(row(1.0, 2.0, 3.0, 4.0, 5.0))
    with pytest.raises(UserError, match="max_batch=0"):
        Programs(predictor(plain_mean, FIXED), {}, max_batch=0)

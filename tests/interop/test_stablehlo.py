"""One program for every platform, its parameters arguments and its batch open."""

from types import SimpleNamespace

import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from research.core.experiment import Codec, Predictor
from research.interop import stablehlo
from research.util.errors import UserError

VARIABLES = {"params": {"dense": {"w": jnp.array([[1.0], [2.0]])}}}


class Pairs(Codec):
    inputs = {"x": (("b", 2), "float32"), "t": (("b", "t"), "int32")}
    constraints = ("t <= 5", "t >= 1")


def fn(variables, inputs):
    return {"y": inputs["x"] @ variables["params"]["dense"]["w"], "t": inputs["t"]}


def test_it_computes_what_was_exported():
    blob = stablehlo.export(Predictor(fn, Pairs()), VARIABLES).serialize()
    exported = jax.export.deserialize(bytearray(blob))
    assert exported.platforms == stablehlo.PLATFORMS
    for rows, tokens in ((2, 3), (1, 5)):
        inputs = {"x": np.array([[3.0, 4.0], [0.0, 1.0]], np.float32)[:rows], "t": np.zeros((rows, tokens), np.int32)}
        y = exported.call({"params/dense/w": VARIABLES["params"]["dense"]["w"] * 2}, inputs)["y"]
        assert y.tolist() == [[22.0], [4.0]][:rows]


@pytest.mark.parametrize(("size", "expected"), [(3, 3), (8, 5)])
def test_an_example_is_within_the_bounds(size, expected):
    assert stablehlo.bounds(Pairs()) == {"t": 5}
    example = stablehlo.example(Pairs(), 4, size, jax.random.key(0))
    assert {name: x.shape for name, x in example.items()} == {"x": (4, 2), "t": (4, expected)}
    assert set(np.unique(example["t"])) <= {0, 1}


def test_the_largest_row():
    specs = stablehlo.largest_row(Pairs())
    assert {name: (x.shape, x.dtype) for name, x in specs.items()} == {
        "x": ((1, 2), np.float32),
        "t": ((1, 5), np.int32),
    }
    with pytest.raises(UserError, match="the size t has no bound"):
        stablehlo.largest_row(SimpleNamespace(inputs=Pairs.inputs, constraints=()))

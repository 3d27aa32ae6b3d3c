"""One file for every platform, checked when it is read."""

import hashlib
import json

import jax.numpy as jnp
import numpy as np
import pytest

from research.core.experiment import Codec, Predictor
from research.interop import stablehlo
from research.util.errors import UserError


@pytest.fixture
def exported(tmp_path):
    def fn(variables, inputs):
        return {"y": inputs["x"] @ variables["w"]}

    class Pairs(Codec):
        inputs = {"x": (("b", 2), "float32")}

    predictor = Predictor(fn, Pairs())
    path = tmp_path / "predict.stablehlo"
    path.write_bytes(stablehlo.export(predictor, {"w": jnp.array([[1.0], [2.0]])}))
    about = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(about))
    return path


def test_it_computes_what_was_exported(exported):
    y = stablehlo.load(exported)({"x": np.array([[3.0, 4.0], [0.0, 1.0]], np.float32)})["y"]
    assert y.tolist() == [[11.0], [2.0]]


def test_a_flipped_bit_is_refused(exported):
    blob = bytearray(exported.read_bytes())
    blob[len(blob) // 2] ^= 1
    exported.write_bytes(blob)
    with pytest.raises(UserError, match="predict.stablehlo is damaged: its SHA-256 is not the one that predict.json"):
        stablehlo.load(exported)


def test_a_file_without_a_description_is_read_as_before(exported):
    exported.with_suffix(".json").unlink()
    assert stablehlo.load(exported)
    exported.write_bytes(b"something else")
    with pytest.raises(UserError, match="is no export of this project"):
        stablehlo.load(exported)

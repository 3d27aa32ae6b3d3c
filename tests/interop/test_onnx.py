"""ONNX: onnxruntime computes what the model does, for any batch; what ONNX cannot hold is refused with the reason.

jax2onnx replaces functions of JAX when it is imported, so it is imported in processes of its own alone.
"""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from research.interop import onnx
from research.util.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CODEC = SimpleNamespace(inputs={"tokens": (("b", "t"), "int32"), "length": (("b",), "int32")}, constraints=("t <= 5",))


def test_shapes_by_hand():
    specs = onnx.specs(CODEC)
    assert [str(d) for d in specs["tokens"].shape] == ["b", "5"] and specs["length"].dtype == np.int32
    inputs = {"tokens": np.array([[1, 2, 3]]), "length": np.array([3])}
    assert onnx.filled(CODEC, inputs)["tokens"].tolist() == [[1, 2, 3, 0, 0]]
    with pytest.raises(UserError, match="the size t has no bound"):
        onnx.specs(SimpleNamespace(inputs=CODEC.inputs, constraints=()))


def converted(case):
    """What tests/interop/onnx_cases.py prints of a case."""
    command = [sys.executable, "-m", "tests.interop.onnx_cases", case]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("family", ["gan", "language_model"])
def test_onnxruntime_computes_the_model(family):
    found = converted(family)
    assert found["names"] and found["difference"] < 1e-5 and found["batches"] == [1, 3]


def test_what_onnx_cannot_hold_is_refused():
    found = converted("refused")
    assert found["export"].startswith("ONNX cannot hold this model: NotImplementedError: ")
    assert found["load"].startswith("onnxruntime does not load it")

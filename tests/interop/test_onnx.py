"""ONNX: onnxruntime computes what the model does, for any batch and length; what ONNX cannot hold is refused with the reason.

jax2onnx replaces functions of JAX when it is imported, so it is imported in a process of its own alone.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found():
    """What tests/interop/form_cases.py prints."""
    command = [sys.executable, "-m", "tests.interop.form_cases", "onnx", "gan", "language_model", "identity", "loop"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", ["gan", "language_model", "identity"])
def test_onnxruntime_computes_the_model(found, case):
    """For two batch sizes, and of the language model two lengths."""
    assert found[case] < 1e-5


def test_what_onnx_cannot_hold_is_refused(found):
    assert found["loop"]["refused"].startswith("ONNX cannot hold this model: NotImplementedError: ")

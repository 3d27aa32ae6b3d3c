"""LiteRT computes what the model does, row by row; what it cannot hold, and a missing TensorFlow, is one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from research.interop import litert
from research.util.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-litert" / "bin" / "python"
made = pytest.mark.skipif(not PYTHON.exists(), reason="needs the environment that almanac export --to litert makes")


def converted(form, *cases):
    """What tests/interop/form_cases.py prints."""
    command = [PYTHON, "-m", "tests.interop.form_cases", form, *cases]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@made
@pytest.mark.slow
def test_litert_computes_the_model():
    found = converted("litert", "gan", "language_model", "top_k")
    assert found["gan"] < 1e-5 and found["language_model"] < 1e-5
    # JAX writes top_k as a composite of StableHLO 1.15, and TensorFlow 2.21 reads StableHLO 1.13.
    assert "LiteRT cannot hold this model: " in found["top_k"]["refused"] and "composite" in found["top_k"]["refused"]


@made
@pytest.mark.slow
def test_int8_rounds_weights():
    """Weights of at most 0.1 rounded to 127 steps each way: differences, and not large ones."""
    assert 1e-5 < converted("litert-int8", "language_model")["language_model"] < 0.05


def test_tensorflow_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match="LiteRT needs tensorflow: ./almanac makes an environment for it"):
        litert.export(None, {})

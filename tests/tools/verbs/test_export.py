"""`almanac export --to`: which forms, and which Python converts."""

import sys

import pytest

from tools import cli
from tools.verbs import export


@pytest.mark.parametrize(
    "to, said",
    [
        ("onxx", "--to onxx: 'onxx' is no form; did you mean 'onnx'?"),
        ("litert,", "--to litert,: '' is no form"),
        ("onnx,huggingface", "--to onnx,huggingface: huggingface stands alone"),
    ],
)
def test_a_form_that_there_is_not_is_named_before_anything_is_read(tmp_path, capsys, to, said):
    assert cli.main(["export", str(tmp_path), "--to", to]) == 2
    assert said in capsys.readouterr().err


def test_this_python_converts_if_it_can_and_else_the_one_that_almanac_made(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "ROOT", tmp_path)
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda package: "here" if package == "jax2onnx" else None)
    assert str(export.python_of("onnx")) == str(export.python_of("litert")) == sys.executable
    for kind in ("onnx", "litert"):
        (tmp_path / f".venv-{kind}" / "bin").mkdir(parents=True)
        (tmp_path / f".venv-{kind}" / "bin" / "python").touch()
    assert str(export.python_of("onnx")) == sys.executable
    assert export.python_of("litert-int8") == tmp_path / ".venv-litert" / "bin" / "python"

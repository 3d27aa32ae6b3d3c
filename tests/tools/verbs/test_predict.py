"""`almanac predict` on a file that is a stream: a line as soon as its value is read, and the rate."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from research.core.experiment import Predictor
from research.run import reopen
from research.util.errors import UserError
from tools import cli


@pytest.fixture
def lines_read(monkeypatch):
    """A run that doubles the numbers of a file, line by line; -> how many lines were read when each was encoded."""
    read, when = [], []

    def stream(file):
        for number, line in enumerate(file.read_text().split()):
            if not line.isdigit():
                raise UserError(f"{file}: {line!r} is no number")
            read.append(line)
            yield {"line": number}, int(line)

    def encode(value):
        when.append(len(read))
        return {"x": np.array([value])}

    codec = SimpleNamespace(encode=encode, decode=lambda outputs: {"y": int(outputs["y"][0])}, stream=stream, draw=None)
    predictor = Predictor(lambda variables, inputs: {"y": 2 * inputs["x"]}, codec)
    loaded = (SimpleNamespace(predictor=predictor), SimpleNamespace(variables={}), None)
    monkeypatch.setattr(reopen, "load", lambda *_: loaded)
    return when


def test_each_value_is_printed_before_the_next_is_read(tmp_path, lines_read, capsys):
    file = tmp_path / "numbers"
    file.write_text("5 6 7")
    assert cli.main(["predict", str(tmp_path), str(file)]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"file": str(file), "line": i, "y": y} for i, y in enumerate((10, 12, 14))
    ]
    assert lines_read == [1, 2, 3]
    assert err.startswith(f"{file}: 3 windows, ") and err.endswith(" frames a second\n")


def test_of_a_folder_a_stream_that_breaks_is_skipped_and_given_itself_it_is_an_error(tmp_path, lines_read, capsys):
    for name, text in (("a", "1 x 2"), ("b", "3")):
        (tmp_path / name).write_text(text)
    assert cli.main(["predict", str(tmp_path), str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["y"] for line in out.splitlines()] == [2, 6]
    assert err.splitlines() == [f"skipped {tmp_path / 'a'}: 'x' is no number", "skipped 1 of 2 files"]
    assert cli.main(["predict", str(tmp_path), str(tmp_path / "a")]) == 2
    assert "'x' is no number" in capsys.readouterr().err


def test_further_pictures_lie_beside_the_first(tmp_path, monkeypatch, capsys):
    codec = SimpleNamespace(
        encode=lambda value: {"x": value},
        decode=lambda outputs: {"y": 1},
        stream=None,
        read=lambda file: np.zeros((1, 1)),
        draw=lambda value, decoded: Image.new("L", (1, 1)),
        further_pictures=lambda value, decoded: {"objects": Image.new("I;16", (1, 1))},
    )
    loaded = (
        SimpleNamespace(predictor=Predictor(lambda variables, inputs: inputs, codec)),
        SimpleNamespace(variables={}),
        None,
    )
    monkeypatch.setattr(reopen, "load", lambda *_: loaded)
    (tmp_path / "a.png").touch()
    out = tmp_path / "out"
    assert cli.main(["predict", str(tmp_path), str(tmp_path / "a.png"), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.png.objects.png", "a.png.png", "predictions.jsonl"]
    capsys.readouterr()

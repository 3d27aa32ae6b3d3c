"""A run in a notebook: what it predicts and measures is what the command line prints."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

import research
from research.util.errors import UserError
from tools import cli


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    folder = tmp_path_factory.mktemp("topics") / "run"
    assert cli.main(["train", "text_classification/tiny", f"--workdir={folder}", "--config.mesh.data=1"]) == 0
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "run"
    assert cli.main(["train", "image_classification/tiny", f"--workdir={folder}", "--config.mesh.data=1"]) == 0
    return folder


def test_a_text(topics, tmp_path, capsys):
    run = research.open_run(topics, "last")
    text = "the try statement and its except clauses"
    (tmp_path / "text.txt").write_text(text)
    capsys.readouterr()
    assert cli.main(["predict", str(topics), str(tmp_path / "text.txt"), "--checkpoint=last"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(tmp_path / "text.txt"), **run.predict(text)}
    with pytest.raises(UserError, match="the text is empty"):
        run.predict(" ")


def test_its_parts(topics):
    run = research.open_run(topics, "last")
    assert run.step == 12 and run.cfg.name == "text_classification/tiny"
    inputs = run.experiment.predictor.codec.encode("a text")
    logits = run.model.apply(run.variables, inputs["tokens"], inputs["length"])
    probabilities = np.asarray(jax.nn.softmax(logits))[0]
    assert run.predict("a text")["class"] == run.data.classes[probabilities.argmax()]


def test_what_it_measures_is_what_was_logged(topics):
    rows = [json.loads(line) for line in (topics / "metrics.jsonl").read_text().splitlines()]
    last = {row["split"]: row["values"] for row in rows}
    run = research.open_run(topics, "last")
    assert run.evaluate() == pytest.approx(last["valid"], rel=1e-5)
    with pytest.raises(UserError, match="there is no split 'vaild'; did you mean 'valid'"):
        run.evaluate("vaild")


def test_pictures_of_several_kinds(digits, tmp_path):
    """A file, the PIL image and its arrays are one picture."""
    run = research.open_run(digits, "last")
    array = run.experiment.evals["valid"].batch(0)["image"][0]
    whole = np.round(255 * array).astype(np.uint8)
    Image.fromarray(whole[..., 0]).save(tmp_path / "digit.png")
    values = [whole, whole[..., 0], whole / np.float32(255), Image.fromarray(whole[..., 0])]
    values.append(run.experiment.predictor.codec.read(tmp_path / "digit.png"))
    first, *others = [run.predict(value) for value in values]
    assert all(other == first for other in others)
    assert (
        run.predict(np.kron(whole[..., 0], np.ones((2, 2), np.uint8)))["class"] in run.data.classes
    )  # of another size
    for value, why in (
        (np.zeros((8, 8), int), "u8 or f32"),
        (np.full((8, 8, 1), 2.0), "is in 0..1"),
        (np.zeros(3), r"\[3\]"),
    ):
        with pytest.raises(UserError, match=why):
            run.predict(value)


def test_no_run(tmp_path):
    with pytest.raises(UserError, match="has no config.json"):
        research.open_run(tmp_path)
    with pytest.raises(AttributeError, match="no attribute 'open_runs'"):
        _ = research.open_runs

"""`almanac pipe` beside `almanac predict`, run by hand one after the other; what it prints; what it refuses."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from research.core import mesh, state
from research.serving import packing
from tests.contract.families import experiment
from tools import cli


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Bundles, with random weights, of what restores pictures and what classifies them."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("restoration", "image_classification"):
        e = experiment(name)
        now = state.create(e.init_fn, e.tx, 0, mesh.make_mesh({"data": 1}, jax.devices()[:1]))
        packing.pack(folder / name, e, now, {"name": f"{name}/tiny"})
    return str(folder / "restoration"), str(folder / "image_classification")


@pytest.fixture
def pictures(tmp_path):
    """Three small pictures, and between them a file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, picture in enumerate(np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)):
        Image.fromarray(picture).save(folder / f"{i}.png")
    (folder / "0_no.png").write_text("no picture")
    return folder


def objects(capsys):
    """What was printed: the rows, and the table's words by line."""
    out, err = capsys.readouterr()
    return [json.loads(line) for line in out.splitlines()], [line.split() for line in err.splitlines()]


def test_it_is_predict_after_predict(models, pictures, tmp_path, capsys):
    assert cli.main(["predict", models[0], str(pictures), "--out", str(tmp_path / "restored")]) == 0
    restored, _ = objects(capsys)
    files = [tmp_path / "restored" / f"{i}.png.png" for i in range(3)]
    assert cli.main(["predict", models[1], *map(str, files)]) == 0
    classes, _ = objects(capsys)

    assert cli.main(["pipe", models[0], f"b={models[1]}", "--json", "--input", str(pictures)]) == 1
    rows, (head, first, second) = objects(capsys)
    failed = rows.pop(1)
    assert failed["row"].endswith("0_no.png") and failed["stages"] == []
    assert failed["failed"]["number"] == 1 and "0_no.png" in failed["failed"]["reason"]
    for row, picture, named in zip(rows, restored, classes, strict=True):
        assert [step["stage"] for step in row["stages"]] == ["restoration", "b"] and row["row"] == picture["file"]
        np.testing.assert_allclose(row["stages"][0]["output"]["image"], picture["image"], atol=2e-4)
        assert row["answer"] == row["stages"][1]["output"] and row["answer"]["class"] == named["class"]
        assert row["answer"]["probabilities"] == pytest.approx(named["probabilities"], abs=2e-4)
    assert head == ["stage", "rows", "errors", "median", "ms", "95", "%", "ms", "share"]
    assert first[:4] == ["1", "restoration", "3", "1"] and second[:4] == ["2", "b", "3", "0"]


def test_a_line_a_row_and_the_truth_beside(models, pictures, tmp_path, capsys):
    lines = tmp_path / "lines"
    lines.write_text("".join(f"{pictures / name}.png\n" for name in "012"))
    truth = tmp_path / "truth.jsonl"
    Image.new("RGB", (16, 16)).save(tmp_path / "true.png")
    truth.write_text('{"restoration": "true.png", "2": "no class"}\n' * 3)
    assert cli.main(["pipe", *models, "--lines", str(lines), "--oracle", str(truth)]) == 0
    out, err = capsys.readouterr()
    assert all(": a picture of 16 x 16 pixels -> " in line for line in out.splitlines()) and out.count("\n") == 3
    psnr, exact = err.splitlines()[-2:]
    assert psnr.split()[:4] == ["1", "restoration", "PSNR,", "dB"] and psnr.endswith(" -")
    assert exact.split() == ["2", "image_classification", "exact", *["0.0000", "of", "3"] * 2]
    for count, words in ((2, "2 lines, and there are more rows"), (4, "4 lines and 3 rows")):
        truth.write_text("{}\n" * count)
        assert cli.main(["pipe", *models, "--lines", str(lines), "--oracle", str(truth)]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("order", "words", "message"),
    [
        (
            (1, 0),
            ["--lines=missing"],
            "stage 2 (restoration) takes: picture; stage 1 (image_classification) gives: class",
        ),
        ((0, 1), ["--lines=missing"], "cannot read missing: No such file or directory"),
        ((0, 1), ["--length=0"], "--length=0: at least 1"),
    ],
)
def test_a_mistake_is_one_line(models, order, words, message, capsys):
    assert cli.main(["pipe", *(models[i] for i in order), *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == f"almanac: {message}\n"

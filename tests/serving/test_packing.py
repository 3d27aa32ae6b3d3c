"""Where a bundle is written, and what its manifest says of the data."""

from functools import partial

import pytest

from research.run import reopen
from research.serving import packing
from research.util.errors import UserError
from tests.contract.families import experiment
from tools import cli


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packing") / "run"
    assert cli.main(["train", "segmentation/tiny", f"--workdir={folder}", "--config.num_steps=4"]) == 0
    return folder


def test_what_is_no_bundle_is_not_replaced(run, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert cli.main(["export", str(run), f"--out={tmp_path / 'mine'}"]) == 2
    assert "mine exists and is no bundle" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_a_bundle_is_replaced_and_takes_one_size(run, tmp_path, capsys):
    out = tmp_path / "bundle"
    for _ in range(2):
        assert cli.main(["export", str(run), f"--out={out}"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    from PIL import Image

    Image.new("L", (50, 40)).save(tmp_path / "a.png")
    capsys.readouterr()
    assert cli.main(["predict", str(out), str(tmp_path / "a.png")]) == 2
    assert "image is 1 x 40 x 50 x 1; the exported program takes b x" in capsys.readouterr().err


def test_a_model_that_differs_is_not_written(run, tmp_path, monkeypatch):
    e, state, _ = reopen.load(run)
    monkeypatch.setattr(packing.parity, "measure", lambda *_: {"largest_difference": 2e-4})
    with pytest.raises(UserError, match="differs from the model by 2.0e-04; it was not written"):
        packing.pack(tmp_path / "bundle", e, state, {"name": "segmentation/tiny"})
    assert not list(tmp_path.iterdir())


def test_a_further_form_is_measured_and_int8_may_differ(run, tmp_path):
    e, state, _ = reopen.load(run)

    def writes(difference):
        def convert(part):
            assert (part / "manifest.json").is_file() and (part / "predict.stablehlo").is_file()
            (part / "model").write_bytes(b"model")
            return {"on": "random inputs", "largest_difference": difference, "agreement": 0.9}

        return convert

    pack = partial(packing.pack, tmp_path / "bundle", e, state, {"name": "segmentation/tiny"})
    for form, difference in (("onnx", 2e-4), ("litert-int8", float("nan"))):
        with pytest.raises(UserError, match="differs from the model by"):
            pack({form: writes(difference)})
        assert not list(tmp_path.iterdir())
    manifest = pack({"litert-int8": writes(0.02), "litert": writes(2e-5)})
    assert [manifest["parity"][form]["largest_difference"] for form in ("litert", "litert-int8")] == [2e-5, 0.02]
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert (
        "litert-int8 against the run, on random inputs: largest difference 2.0e-02, the same choice in 90.00%" in card
    )
    assert "model" in (tmp_path / "bundle" / "SHA256SUMS").read_text()


def test_the_fingerprint_is_of_the_data_and_its_order():
    prints = [packing.fingerprint(experiment("vae", f"seed={seed}")) for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2] and len(prints[0]) == 64

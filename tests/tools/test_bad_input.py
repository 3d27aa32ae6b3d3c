"""Every mistake: status 2, one line that names it, and nothing left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools import cli

ROOT = Path(__file__).resolve().parents[2]
TINY = "language_model/tiny"
TEXT = "the quick brown fox jumps over the lazy dog\n" * 60


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What the commands do where there is no mistake: two steps on a small text."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    changes = [f"--config.{c}" for c in overrides(folder / "text.txt")]
    assert cli.main(["train", TINY, *changes, f"--workdir={folder / 'run'}"]) == 0
    return folder / "run"


def overrides(text):
    return ["data.source=files", f"data.path={text}", "num_steps=2", "optim.warmup=1"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Commands run in an empty folder with a text, and with no data but that."""
    for name in ("mirror", "data"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("ALMANAC_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ALMANAC_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def everything(folder):
    return {str(p.relative_to(folder)): p.is_file() and p.read_bytes() for p in folder.rglob("*")}


@pytest.fixture
def refused(here, capsys):
    """refused(*argv) -> the one line of the error; nothing is written."""

    def run(*argv):
        was = everything(here)
        capsys.readouterr()
        assert cli.main(list(map(str, argv))) == 2
        err = capsys.readouterr().err
        assert err.startswith("almanac: ") and err.count("\n") == 1, err
        assert everything(here) == was
        return err

    return run


def tiny(*changes):
    """`almanac train` of the tiny language model on the small text."""
    return "train", TINY, *(f"--config.{c}" for c in (*overrides("text.txt"), *changes))


@pytest.mark.parametrize(
    "argv, message",
    [
        (["trian"], "no verb 'trian'; did you mean 'train'?"),
        (["train", "langage_model/tiny"], "no experiment 'langage_model/tiny'; did you mean 'language_model/tiny'?"),
        (["train", "language_model/tyny"], "no experiment 'language_model/tyny'; did you mean 'language_model/tiny'?"),
        (["train", "tiny"], "no experiment 'tiny'"),
        (["show", "language_model/tyny"], "did you mean 'language_model/tiny'?"),
        (["train", "no/config.json"], "cannot read the config no/config.json"),
        (tiny("optim.peek_lr=1"), "no config key 'optim.peek_lr'; did you mean 'optim.peak_lr'?"),
        (tiny("optim=3"), "config key 'optim' is a group"),
        (tiny("num_steps=many"), "config key num_steps = 'many': wanted int"),
        (tiny("optim.peak_lr=fast"), "config key optim.peak_lr = 'fast': wanted float"),
        (tiny("num_steps=0"), "num_steps"),
        (tiny("model.tied=perhaps"), "config key model.tied = 'perhaps': wanted bool"),
        (tiny("data.batch_size=6"), "data.batch_size = 6 does not divide by the data axis of 8"),
        (tiny("data.eval_batch_size=6"), "data.eval_batch_size = 6 does not divide by the data axis of 8"),
        (tiny("optim.accumulate=3"), "data.batch_size = 8 does not divide into optim.accumulate = 3"),
        (tiny("mesh.data=16"), "does not fit 8 device(s)"),
        (tiny("mesh.model=3"), "does not fit 8 device(s)"),
        (tiny("data.length=5000"), "data.length = 5000 needs a text of 5,001 tokens"),
        (tiny("data.path=nowhere.txt"), "nowhere.txt"),
        (tiny("data.source=pidoc"), "no text source 'pidoc'; did you mean 'pydoc'?"),
        (tiny("data.tokenizer=chr"), "no tokenizer 'chr'; did you mean 'char'?"),
        (tiny("model.norm=batchnorm"), "batchnorm"),
        (tiny("model.num_heads=5"), "5"),
        (tiny("optim.name=adamm"), "no optimiser 'adamm'; did you mean 'adam'?"),
        (tiny("optim.schedule=cosin"), "no schedule 'cosin'; did you mean 'cosine'?"),
        (tiny("optim.warmup=2"), "optim.warmup = 2 steps leaves none of num_steps = 2"),
        (tiny("optim.freeze=("), "optim.freeze = '(' is no regular expression"),
        (tiny("optim.freeze=kernal"), "optim.freeze = 'kernal' matches no parameter"),
        (tiny("dtype=float16"), "dtype = 'float16'"),
        (tiny("rules=fspd"), "rules = 'fspd': no such set; did you mean 'fsdp'?"),
        (tiny("best.metric=vaild/loss"), "best.metric = 'vaild/loss'"),
        ([*tiny(), "--resume=yes"], "--resume=yes: 'auto' or 'force'"),
        ([*tiny(), "--profile=3"], "--profile=3: write A:B"),
        ([*tiny(), "--profile=a:b"], "--profile=a:b: write A:B"),
        ([*tiny(), "--profile=4:2"], "--profile=4:2: write A:B"),
        ([*tiny(), "--profile=2:4"], "--profile=2:4: there are but 2 steps to go"),
        ([*tiny(), "--device=npu"], "--device=npu: one of cpu, gpu, tpu"),
        ([*tiny(), "--device=tpu"], "--device=tpu: no such device here"),
        ([*tiny(), "--device=gpu"], "--device=gpu: no such device here"),
        (tiny("optim.peak_lr=-1"), "optim.peak_lr = -1.0: a number at least 0"),
        (tiny("optim.peak_lr=nan"), "optim.peak_lr = nan"),
        (tiny("optim.clip_norm=-1"), "optim.clip_norm = -1.0"),
        (tiny("optim.weight_decay=nan"), "optim.weight_decay = nan"),
        (tiny("optim.ema=1"), "optim.ema = 1.0"),
        (tiny("model.dropout=1"), "model.dropout = 1.0: from 0 to below 1"),
        (tiny("num_steps=-5"), "num_steps = -5: at least 1"),
        (tiny("save_every=-5"), "save_every = -5: steps, at least 0"),
        (tiny("data.batch_size=0"), "data.batch_size = 0: at least 1"),
        (tiny("data.eval_batch_size=-8"), "data.eval_batch_size = -8: at least 1"),
        (tiny("data.length=0"), "data.length = 0: at least 1"),
        (tiny("data.length=-3"), "data.length = -3: at least 1"),
        (tiny("seed=12345678901234567890"), "seed = 12345678901234567890: at least 0 and below 2**63"),
        (tiny("sample.temperature=inf"), "sample.temperature=inf: want at least 0 and finite"),
        (tiny("sample.top_k=0"), "sample.top_k=0: want a whole number, at least 1"),
        (tiny("best.metric=valid/los"), "best.metric = 'valid/los': valid has no such metric; did you mean 'loss'?"),
        (tiny("best.patience=-1"), "best.patience"),
        ([*tiny(), "--workdir="], "--workdir=: give a folder"),
        ([*tiny(), "--workdir=http://host/run"], "http://host/run: no place for a run; give a folder, s3://BUCKET/DIR"),
        ([*tiny(), f"--workdir={'a' * 300}"], "300 characters, has a name that no file can have"),
        ([*tiny(), "--workdir=text.txt"], "cannot write to the run directory"),
        ([*tiny(), "--workdir=text.txt/run"], "text.txt/run: Not a directory"),
    ],
    ids=lambda value: " ".join(value[-1:]) if isinstance(value, (list, tuple)) else "",
)
def test_train(refused, argv, message):
    assert message in refused(*argv)


@pytest.mark.parametrize("platform", ["tpu", "gpu"])
def test_absent_device_of_a_fresh_process(here, platform):
    """Here JAX has not chosen one yet. libtpu, where it is installed, has more to say."""
    environ = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    environ |= {"PYTHONPATH": str(ROOT), "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}  # another test may hold it
    command = [sys.executable, "-m", "tools.cli", *tiny(), f"--device={platform}"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"almanac: --device={platform}: no such device here")
    assert not (here / "runs").exists()


# Data


def test_missing_data_names_file_checksum_and_both_remedies(refused):
    err = refused("train", "image_classification/mnist_cnn")
    for word in ("mnist", "train-images-idx3-ubyte.gz", "ALMANAC_MIRROR", "ALMANAC_OFFLINE", "440fcabf73cc"):
        assert word in err


def test_wrong_checksum_in_the_mirror(refused, here):
    path = here / "mirror" / "mnist" / "train-labels-idx1-ubyte.gz"
    path.parent.mkdir()
    path.write_bytes(bytes(28881))
    err = refused("train", "image_classification/mnist_cnn")
    assert f"{path} is damaged: expected sha256 3552534a0a55" in err


def test_mirror_that_is_no_folder(refused, monkeypatch):
    monkeypatch.setenv("ALMANAC_MIRROR", "text.txt")
    assert "ALMANAC_MIRROR=text.txt is not a folder" in refused("train", "image_classification/mnist_cnn")


@pytest.fixture
def pictures(here):
    """Pictures of two classes, of which every second is cut short; with masks; with boxes of which none can be used."""
    for name in ("classes/a", "classes/b", "pairs/images", "pairs/masks", "boxes"):
        (here / name).mkdir(parents=True)
    for i in range(4):
        Image.new("RGB", (6, 4)).save(here / "pairs" / "images" / f"{i}.png")
        Image.new("L", (6, 4), i % 2).save(here / "pairs" / "masks" / f"{i}.png")
        Image.new("RGB", (6, 4)).save(here / "boxes" / f"{i}.png")
        whole = (here / "boxes" / f"{i}.png").read_bytes()
        (here / "classes" / "ab"[i % 2] / f"{i}.png").write_bytes(whole[: len(whole) // 2])
    np.savez(here / "labels.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.array([0, 1, -1, 1]))
    boxes = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 6, "height": 4} for i in range(4)],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [{"id": i, "image_id": i, "category_id": 5, "bbox": [0, 0, 2, 2]} for i in range(4)],
    }
    (here / "boxes" / "boxes.json").write_text(json.dumps(boxes))


@pytest.mark.parametrize(
    "family, path, message",
    [
        ("image_classification", "classes", "data.path = classes: no picture found (a/0.png: "),
        ("image_classification", "labels.npz", "labels must be whole numbers from 0"),
        ("segmentation", "pairs", "pairs/masks/2.png has 4 x 5 pixels, its picture pairs/images/2.png 4 x 6"),
        ("segmentation", "classes", "classes has no folder images"),
        ("detection", "boxes/boxes.json", "category 5"),
    ],
)
def test_pictures(pictures, here, refused, family, path, message):
    if family == "segmentation":
        Image.new("L", (5, 4)).save(here / "pairs" / "masks" / "2.png")
    source = {".npz": "arrays", ".json": "coco"}.get(Path(path).suffix, "files")
    changes = [f"--config.data.source={source}", f"--config.data.path={path}"]
    assert message in refused("train", f"{family}/tiny", *changes)


# Runs


def test_run_directory_of_another_config(refused, trained):
    was = everything(trained)
    text = trained.parent / "text.txt"
    same = [f"--config.{c}" for c in overrides(text)]
    err = refused("train", TINY, *same, "--config.seed=1", f"--workdir={trained}")
    assert "holds a run of another config: seed: 0 -> 1." in err and "--resume=force" in err
    assert everything(trained) == was


@pytest.mark.parametrize("verb, more", [("evaluate", []), ("predict", ["text.txt"]), ("export", []), ("sample", [])])
def test_folder_that_is_no_run(refused, here, trained, verb, more):
    assert "nowhere is no run directory: it has no config.json" in refused(verb, "nowhere", *more)
    (here / "run").mkdir()
    assert "run is no run directory: it has no config.json" in refused(verb, "run", *more)
    (here / "run" / "config.json").write_text((trained / "config.json").read_text())
    assert "run holds no checkpoint yet" in refused(verb, "run", *more)
    (here / "run" / "config.json").write_text("{")
    assert "cannot read the config run/config.json" in refused(verb, "run", *more)


@pytest.mark.parametrize(
    "argv, message",
    [
        (["evaluate", "--checkpoint=7"], "holds no checkpoint of step 7"),
        (["evaluate", "--checkpoint=newest"], "--checkpoint=newest: 'best', 'last' or a step"),
        (["evaluate", "--split=test"], "--split=test: this experiment has no such split"),
        (["predict", "nowhere.txt"], "cannot read nowhere.txt"),
        (["predict", "odd.txt"], "character 'é' (U+00E9) at position 4"),
        (["predict", "empty.txt"], "empty.txt: the text is empty"),
        (["predict", "binary.txt"], "cannot read binary.txt as UTF-8"),
        (["export", "--out=nowhere/model"], "cannot write nowhere/model"),
        (["sample", "--prompt=the é"], "character 'é' (U+00E9) at position 4"),
        (["sample", "--prompt="], "prompt"),
        (["sample", "--top-p=2"], "top_p=2.0: want above 0 and at most 1"),
        (["sample", "--length=0"], "length=0: want at least 1"),
        (["sample", "--temperature=-1"], "temperature=-1.0: want at least 0"),
        (["sample", "--temperature=inf"], "temperature=inf: want at least 0 and finite"),
        (["sample", "--temperature=nan"], "temperature=nan: want at least 0 and finite"),
        (["sample", "--top-p=nan"], "top_p=nan: want above 0 and at most 1"),
        (["sample", "--top-p=0"], "top_p=0.0: want above 0 and at most 1"),
        (["sample", "--top-k=0"], "top_k=0: want a whole number, at least 1"),
        (["sample", "--stop="], "--stop=: want a text of one character or more"),
        (["sample", "--seed=12345678901234567890"], "--seed=12345678901234567890: at least 0 and below 2**63"),
        (["report", "--out=odd.txt"], "--out=odd.txt: cannot make this folder: File exists"),
        (["report", "--out="], "--out=: give a folder"),
        (["sample", "--prompt=the", "--regex=("], "constraint '(': no regular expression"),
        (["sample", "--prompt=the", "--json-schema=empty.txt"], "cannot read empty.txt as JSON"),
        (["sample", "--prompt=the", "--few-shot=odd.txt"], "odd.txt, line 1: want"),
        (["sample", "--chat=odd.txt"], "cannot read odd.txt as JSON"),
        (["sample", "--shots=2"], "--shots needs --few-shot"),
        (["sample", "--prompt=the", "--beam=0", "--length=3"], "beam=0: want at least 1"),
        (["sample", "--prompt=the", "--beam=2", "--length=99"], "max_length=16"),
        (["sample", "--prompt=the", "--beam=2", "--temperature=1"], "--temperature is for sampling"),
        (["sample", "--draft=nowhere"], "nowhere is no run directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_tools_on_a_run(refused, here, trained, argv, message):
    (here / "odd.txt").write_text("the é")
    (here / "empty.txt").write_text("")
    (here / "binary.txt").write_bytes(b"\xff\xfe")
    was = everything(trained)
    assert message in refused(argv[0], trained, *argv[1:])
    assert everything(trained) == was


def test_the_same_tools_without_a_mistake(trained, here, capsys):
    assert cli.main(["evaluate", str(trained)]) == 0
    assert "valid/loss" in capsys.readouterr().out
    assert cli.main(["predict", str(trained), "text.txt"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["file"] == "text.txt" and len(said["next"]) == 5
    said = []
    for _ in range(2):
        assert cli.main(["sample", str(trained), "--prompt=the", "--length=9", "--seed=3"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and said[0].startswith("the") and len(said[0]) == len("the") + 9 + 1

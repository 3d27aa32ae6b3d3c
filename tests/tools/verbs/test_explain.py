"""`almanac explain` on a run of a few steps, and on what it cannot explain."""

import re
import zipfile
from html import escape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from research.interpret.targets import Target
from tools import cli
from tools.verbs import explain_picture

EARLIER = Path(__file__).resolve().parents[2] / "fixtures" / "earlier"
TEXT = "the statement is evaluated before the loop ends"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "tiny"
    changes = [f"--config.{c}" for c in ("num_steps=2", "optim.warmup=0", "eval_every=0", "data.eval_batch_size=64")]
    assert cli.main(["train", "text_classification/tiny", *changes, f"--workdir={folder}"]) == 0
    return folder


@pytest.mark.parametrize("method", ["attention", "gradient_x_input", "integrated_gradients"])
def test_every_method_writes_a_page_and_a_picture(run, tmp_path, capsys, method):
    out = tmp_path / "there" / "explained"
    words = ["explain", str(run), f"--text={TEXT}", f"--method={method}", "--steps=4", f"--out={out}"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    for word in TEXT.split():
        assert word in said and word in out.with_suffix(".html").read_text()
    with Image.open(out.with_suffix(".png")) as image:
        assert image.format == "PNG"
    scores = [float(line.split()[0]) for line in said.splitlines() if line.startswith("    ")]
    assert len(scores) == len(TEXT.split())
    if method == "attention":
        assert sum(scores) == pytest.approx(1, abs=1e-3)


def test_a_class_of_choice(run, tmp_path, capsys):
    for name in ("debugger", "expressions"):
        words = [
            "explain",
            str(run),
            f"--text={TEXT}",
            "--method=gradient_x_input",
            f"--class={name}",
            f"--out={tmp_path / name}",
        ]
        assert cli.main(words) == 0
        assert capsys.readouterr().out.startswith(f"{name}: probability 0.")
    assert (tmp_path / "debugger.html").read_text() != (tmp_path / "expressions.html").read_text()


def test_agreement_over_a_split(run, capsys):
    assert cli.main(["explain", str(run), "--agreement", "--split=valid"]) == 0
    said = capsys.readouterr().out
    tau, texts = re.search(r"^  all +(-?\d\.\d+) ± .*\((\d+)\)$", said, re.M).groups()
    assert -1 <= float(tau) <= 1 and f"over {texts} texts of at least two tokens" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "want one of --text=TEXT, --image=FILE, --visualise and --agreement"),
        (["--text=a", "--agreement"], "want one of --text=TEXT, --image=FILE, --visualise and --agreement"),
        (["--text= "], "--text is empty"),
        (["--text=a", "--method=atention"], "--method=atention; did you mean 'attention'?"),
        (["--text=a", "--class=debuger"], "--class=debuger; did you mean 'debugger'?"),
        (["--text=a", "--steps=0"], "--steps=0: at least 1"),
        (["--agreement", "--split=tset"], "--split=tset: this experiment has no such split; did you mean 'test'?"),
        (["--text=a", "--checkpoint=7"], "holds no checkpoint of step 7"),
        (["--text=a", "--unit=0"], "--unit chooses what is explained of a picture: it is for --image"),
    ],
)
def test_mistakes(run, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    before = sorted(run.rglob("*"))
    assert cli.main(["explain", str(run), *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert sorted(run.rglob("*")) == before


def test_a_run_that_labels_words_is_refused(tmp_path, capsys):
    """It has tokens and their number as a classifier has, and no class of a text."""
    with zipfile.ZipFile(EARLIER / "token_labelling.zip") as archive:
        archive.extractall(tmp_path / "run")
    assert cli.main(["explain", str(tmp_path / "run"), f"--text={TEXT}"]) == 2
    assert "token_labelling/tiny is no text classifier" in capsys.readouterr().err


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    changes = [f"--config.{c}" for c in ("num_steps=2", "optim.warmup=0", "eval_every=0")]
    assert cli.main(["train", "image_classification/tiny", *changes, f"--workdir={folder / 'run'}"]) == 0
    Image.new("L", (8, 8), 90).save(folder / "a.png")
    return folder


@pytest.mark.parametrize("method", ["integrated_gradients", "saliency", "occlusion", "grad_cam"])
def test_a_picture_is_explained_by_its_pixels(pictures, tmp_path, capsys, method):
    out = tmp_path / "map"
    words = [str(pictures / "run"), f"--image={pictures / 'a.png'}", f"--method={method}", "--steps=4", "--sanity"]
    assert cli.main(["explain", *words, "--class=3", f"--out={out}"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("3: probability 0.") and said[2].startswith(
        "rank correlation with the map of random weights"
    )
    page = out.with_suffix(".html").read_text()
    assert all(escape(line) in page for line in said[:3]) and "data:image/png" in page
    with Image.open(out.with_suffix(".png")) as image:
        assert image.format == "PNG"


@pytest.mark.parametrize(
    "words, error",
    [
        (["--method=attention"], "--method=attention"),
        (["--class=ten"], "--class=ten"),
        (["--method=occlusion", "--size=9"], "a square of 9 pixels does not fit into 8 x 8"),
        (["--steps=0"], "--steps=0: at least 1"),
        (["--method=attention_rollout"], "the model has no attention"),
        (["--text=a"], "want one of --text=TEXT, --image=FILE, --visualise and --agreement"),
        (["--unit=0"], "--unit is not an option of image_classification/tiny, which takes --class"),
        (["--at="], "--at=: want a row and a column"),
        (["--at=3"], "--at=3: want a row and a column, such as --at=12,30"),
    ],
)
def test_what_a_picture_cannot_be_asked(pictures, capsys, words, error):
    assert cli.main(["explain", str(pictures / "run"), f"--image={pictures / 'a.png'}", *words]) == 2
    assert error in capsys.readouterr().err


def test_the_pictures_that_a_network_prefers(pictures, tmp_path, capsys):
    out = tmp_path / "preferred"
    words = ["explain", str(pictures / "run"), "--visualise", "--steps=150", f"--out={out}"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 12  # a line for each digit, and two files
    for k, line in enumerate(said[:10]):
        name, found, largest = re.fullmatch(r"(\d): (\S+), the logit .* pictures of valid (\S+)", line).groups()
        assert int(name) == k and float(found) > float(largest)  # it prefers them to what it was trained on
    with Image.open(out.with_suffix(".png")) as image:
        assert image.format == "PNG"
    assert cli.main([*words, "--class=eleven"]) == 2
    assert "--class=eleven" in capsys.readouterr().err


def test_the_picture_preferred_to_a_given_one(pictures, tmp_path, capsys):
    """By the number that is explained of it; a clip's frames are all made."""
    words = [
        "explain",
        str(pictures / "run"),
        f"--image={pictures / 'a.png'}",
        "--visualise",
        f"--out={tmp_path / 'a'}",
    ]
    assert cli.main([*words, "--class=3", "--steps=60"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("3: probability ")
    found, given = map(
        float, re.fullmatch(r"logit (\S+) of the picture found, (\S+) of the one given", said[1]).groups()
    )
    assert found > given
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"

    def explained(e, variables, inputs):
        return Target(lambda v, clip: clip[:, 2].mean((1, 2, 3)), inputs, "brightness", ["of frame 2"], ["a", "b", "c"])

    codec = SimpleNamespace(encode=lambda clip: clip[None])
    e = SimpleNamespace(explained=explained, predictor=SimpleNamespace(codec=codec))
    made = explain_picture.preferred_to(e, SimpleNamespace(variables={}), np.full((3, 8, 8, 1), 0.25), steps=60)
    assert made.pixels.shape == (3, 8, 8, 1) and made.facts[1].endswith("0.2500 of the one given")
    others, bright = made.pixels[:2].mean(), made.pixels[2].mean()
    assert bright > 0.6 and abs(others - 0.5) < 0.1  # the frame that counts, and it alone


def test_a_text_classifier_reads_no_picture(run, pictures, capsys):
    assert cli.main(["explain", str(run), f"--image={pictures / 'a.png'}"]) == 2
    assert "text_classification/tiny explains no picture: --image is for the families of" in capsys.readouterr().err
    assert cli.main(["explain", str(pictures / "run"), "--text=a"]) == 2
    assert "image_classification/tiny is no text classifier" in capsys.readouterr().err

"""`almanac promote`, and the whole circle: digits arrive inverted, their labels are trained on, and the new model takes over."""

import json
import threading

import httpx2
import numpy as np
import pytest

from research.core import config
from research.data import feedback_sets
from research.data.images import classification
from research.serving import servable
from research.serving.web import app, served
from tests.data.feedback_writer import write
from tests.serving.web.conftest import listening
from tools import cli
from tools.verbs import promote, train

RECIPE = [
    "model.name=mlp",
    "data.batch_size=64",
    "augment.crop=0",
    "augment.erase=0",
    "optim.name=adam",
    "optim.peak_lr=0.005",
]
RECIPE += ["num_steps=250", "eval_every=250", "save_every=250", "log_every=250"]


def inverted(rows):
    """(class, u8[8, 8]) of digits in black on white."""
    cfg = config.load("image_classification/tiny").data
    batch = classification.load(cfg, 0).training.gather(np.array(rows), 0)
    pictures = np.round(255 * (1 - batch["image"][..., 0]))
    return [(str(label), picture) for label, picture in zip(batch["label"], pictures, strict=True)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run "current", a set of inverted digits "feedback", and a run "candidate" tuned on both kinds."""
    root = tmp_path_factory.mktemp("runs")
    write(root / "feedback", inverted(range(600)), inverted(range(600, 700)), "0123456789", kind="picture")
    train.run("image_classification/tiny", RECIPE, root / "current")
    new = [f"data.extra={root / 'feedback'}", f"pretrained.weights={root / 'current'}", "optim.peak_lr=0.005"]
    train.run("image_classification/tiny", [*RECIPE, *new], root / "candidate")
    return root


def said(capsys, *argv):
    """The exit status, and what was printed and reported."""
    capsys.readouterr()
    status = cli.main(["promote", *map(str, argv)])
    return status, *capsys.readouterr()


@pytest.fixture
def server(runs, tmp_path):
    """The port of a server of the run "current" as version 1 of "digits"; before `capsys`, since uvicorn closes log handlers."""
    limits = served.Limits(max_batch=2, drain=5.0)
    models = served.of([servable.from_folder(runs / "current", "digits", "best", None)], limits)
    models.start()
    (tmp_path / "bundles").mkdir()
    with listening(app.create(models, limits, bundles=tmp_path / "bundles")) as port:
        yield port
    models.close()


def test_the_circle(runs, server, tmp_path, capsys):
    url = f"http://127.0.0.1:{server}"
    body = {"model": "digits", "inputs": [np.full((8, 8, 1), 0.5).tolist()]}
    answers, done = [], threading.Event()

    def ask():
        with httpx2.Client(base_url=url, timeout=60) as http:
            while not done.is_set() or answers[-1][1] == "digits@1":
                answer = http.post("/v1/predict", json=body)
                answers.append((answer.status_code, answer.json()["model"]))

    client = threading.Thread(target=ask)
    client.start()
    to = ["--server", url, "--model", "digits", "--bundles", tmp_path / "bundles"]
    rule = ["--over", runs / "current", "--data", runs / "feedback", "--margin", 0.04]
    status, out, err = said(capsys, runs / "candidate", *rule, *to)
    done.set()
    client.join()
    assert (status, err) == (0, "")
    assert "promoted" in out and "version 2 of digits answers now, after 1" in out
    assert {code for code, _ in answers} == {200}
    assert list(dict.fromkeys(model for _, model in answers)) == ["digits@1", "digits@2"]
    verdict = json.loads((runs / "candidate" / promote.FILE).read_text())
    assert verdict["promoted"] and verdict["new"]["sha256"] == feedback_sets.digest(runs / "feedback")
    assert verdict["new"]["rows"] == 100 and verdict["new"]["current"] < 0.3 and verdict["new"]["candidate"] > 0.7
    assert verdict["candidate"]["parameters_sha256"] != verdict["current"]["parameters_sha256"]


def test_a_server_that_refuses_keeps_its_version(runs, server, tmp_path, capsys):
    (tmp_path / "token").write_text("secret\n")
    url = f"http://127.0.0.1:{server}"
    to = ["--server", url, "--model", "digits", "--bundles", tmp_path, "--token-file", tmp_path / "token"]
    status, out, err = said(capsys, runs / "candidate", "--over", runs / "current", "--margin", 0.04, *to)
    assert status == 2 and "promoted" in out  # the bundle was written where the server does not look
    assert "promoted, and not served: the server answered 422: there is no folder" in err
    assert "version 1 of digits stays" in err and httpx2.get(f"{url}/v1/admin/models/digits").json()["latest"] == 1


def test_the_accuracies_are_those_of_evaluate(runs, capsys):
    said(capsys, runs / "candidate", "--over", runs / "current", "--split", "test", "--margin", 0.5)
    found = json.loads((runs / "candidate" / promote.FILE).read_text())
    assert found["old"]["left_out"] == 0 and found["new"] is None
    for side in ("candidate", "current"):
        cli.main(["evaluate", str(runs / side), "--split", "test", "--json"])
        accuracy = json.loads(capsys.readouterr().out)["values"]["accuracy"]
        assert found["old"][side] == pytest.approx(accuracy, abs=1e-6)


def test_a_candidate_that_is_worse_is_refused(runs, capsys):
    status, out, _ = said(
        capsys, runs / "current", "--over", runs / "candidate", "--data", runs / "feedback", "--margin", 0.5
    )
    assert status == 1 and "refused: on new data it is not shown to be better: p = 1, " in out
    assert json.loads((runs / "current" / promote.FILE).read_text())["why"] in out
    status, out, _ = said(capsys, runs / "current", "--over", runs / "current")
    assert status == 1 and "rows cannot show less than 0.0" in out and "not compared: give --data" in out


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--split", "tset"], "--split=tset: the current run has no such split; did you mean 'test'?"),
        (["--margin", "0"], "--margin=0.0: between 0 and 1"),
        (["--level", "0.5"], "--level=0.5: between 0 and 0.5"),
        (["--model", "m"], "--model=m: is for --server URL"),
        (["--server", "http://127.0.0.1:9"], "--server: give the model's name there, --model"),
        (["--server", "http://127.0.0.1:9", "--model", "m", "--bundles", "."], "no answer from http://127.0.0.1:9"),
        (["--data", "nowhere"], "nowhere is no set of feedback"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(runs, tmp_path, capsys, argv, words):
    was = sorted(runs.rglob("*"))
    status, out, err = said(capsys, runs / "candidate", "--over", runs / "current", *argv)
    assert status == 2 and words in err and err.count("\n") == 1 and not out
    assert sorted(runs.rglob("*")) == was

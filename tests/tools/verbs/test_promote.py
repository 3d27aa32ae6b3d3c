"""`almanac promote`, and the whole circle: digits arrive inverted, their labels are trained on, and the new model takes over."""

import json
import threading
import time

import httpx2
import numpy as np
import pytest

from research.core import config
from research.data import feedback_sets
from research.data.images import classification
from research.serving import servable
from research.serving.monitor import store, summary
from research.serving.monitor.observer import Observer
from research.serving.web import app, served
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
ASKED = 400
RECIPE += ["num_steps=250", "eval_every=250", "save_every=250", "log_every=250"]


def inverted(rows):
    """(class, u8[8, 8]) of digits in black on white."""
    cfg = config.load("image_classification/tiny").data
    batch = classification.load(cfg, 0).training.gather(np.array(rows), 0)
    pictures = np.round(255 * (1 - batch["image"][..., 0]))
    return [(str(label), picture) for label, picture in zip(batch["label"], pictures, strict=True)]


@pytest.fixture(scope="module")
def circle(tmp_path_factory):
    """The folder and the port of a server of the run "current" as "digits", which has been asked inverted digits and told their
    labels, and a run "candidate", tuned on the set "feedback" that came of it.

    Of the module, since uvicorn closes the log handlers that `capsys` would find.
    """
    root = tmp_path_factory.mktemp("runs")
    (root / "bundles").mkdir()
    train.run("image_classification/tiny", RECIPE, root / "current")
    assert cli.main(["export", str(root / "current"), f"--out={root / 'bundles' / 'first'}"]) == 0
    limits = served.Limits(max_batch=2, drain=5.0)
    models = served.of([servable.from_folder(root / "bundles" / "first", "digits", "best", None)], limits)
    models.start()
    watch = Observer(root / "monitored", capture_days=1.0)
    with listening(app.create(models, limits, bundles=root / "bundles", observer=watch)) as port:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            for number, (label, picture) in enumerate(inverted(range(ASKED))):
                asked = {"model": "digits", "inputs": [(picture / 255)[..., None].tolist()]}
                answer = http.post("/v1/predict", json=asked, headers={"x-request-id": f"request-{number}"})
                told = {"request_id": answer.headers["x-request-id"], "label": label}
                codes = answer.status_code, http.post("/v1/feedback", json=told).status_code
                assert codes == (200, 202)
        wait_for(root / "monitored", ASKED)
        export = ["feedback", "export", str(root / "monitored"), "--model=digits", f"--out={root / 'feedback'}"]
        assert cli.main(export) == 0
        new = [f"data.extra={root / 'feedback'}", f"pretrained.weights={root / 'current'}"]
        train.run("image_classification/tiny", [*RECIPE, *new], root / "candidate")
        yield root, port
    models.close()


@pytest.fixture
def runs(circle):
    return circle[0]


def wait_for(folder, labels):
    """The monitor writes in a thread of its own."""
    while store.merged([folder]).execute("select count(label) from feedback").fetchone()[0] < labels:
        time.sleep(0.05)


def said(capsys, *argv):
    """The exit status, and what was printed and reported."""
    capsys.readouterr()
    status = cli.main(["promote", *map(str, argv)])
    return status, *capsys.readouterr()


def test_the_monitor_saw_the_drift_and_the_loss(runs):
    (digits,) = summary.summary(store.merged([runs / "monitored"]))["models"]
    assert digits["alarms"][0]["request"] <= 100  # all were inverted; an alarm comes after 25 at the earliest
    assert digits["performance"]["labels"] == ASKED and digits["performance"]["accuracy"] < 0.3


def test_a_server_that_refuses_keeps_its_version(circle, tmp_path, capsys):
    runs, port = circle
    (tmp_path / "token").write_text("secret\n")
    url = f"http://127.0.0.1:{port}"
    to = ["--server", url, "--model", "digits", "--bundles", tmp_path, "--token-file", tmp_path / "token"]
    status, out, err = said(capsys, runs / "candidate", "--over", runs / "current", "--margin", 0.04, *to)
    assert status == 2 and "promoted" in out  # the bundle was written where the server does not look
    assert "promoted, and not served: the server answered 422: there is no folder" in err
    assert "version 1 of digits stays" in err and httpx2.get(f"{url}/v1/admin/models/digits").json()["latest"] == 1


def test_the_circle_closes_without_a_failed_request(circle, capsys):
    runs, port = circle
    url = f"http://127.0.0.1:{port}"
    body = {"model": "digits", "inputs": [np.full((8, 8, 1), 0.5).tolist()]}
    answers, done = [], threading.Event()

    def ask():
        with httpx2.Client(base_url=url, timeout=60) as http:
            while True:
                last = done.is_set()
                answer = http.post("/v1/predict", json=body)
                answers.append((answer.status_code, answer.json()["model"]))
                if last:
                    return

    client = threading.Thread(target=ask)
    client.start()
    to = ["--server", url, "--model", "digits", "--bundles", runs / "bundles"]
    rule = ["--over", runs / "current", "--data", runs / "feedback", "--margin", 0.06]
    status, out, err = said(capsys, runs / "candidate", *rule, *to)
    done.set()
    client.join()
    assert (status, err) == (0, "")
    assert "promoted" in out and "version 2 of digits answers now, after 1" in out
    assert {code for code, _ in answers} == {200}
    assert list(dict.fromkeys(model for _, model in answers)) == ["digits@1", "digits@2"]
    verdict = json.loads((runs / "candidate" / promote.FILE).read_text())
    assert verdict["promoted"] and verdict["new"]["sha256"] == feedback_sets.digest(runs / "feedback")
    manifest = json.loads((runs / "feedback" / feedback_sets.MANIFEST).read_text())
    assert verdict["new"]["rows"] == manifest["rows"]["heldout"] == ASKED - manifest["rows"]["train"] > 60
    assert verdict["new"]["current"] < 0.3 and verdict["new"]["candidate"] > 0.7
    assert verdict["candidate"]["parameters_sha256"] != verdict["current"]["parameters_sha256"]


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

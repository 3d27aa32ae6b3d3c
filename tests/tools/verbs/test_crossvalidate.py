"""Cross-validation: which runs it trains, on which overrides, and the mean of their numbers at the step chosen."""

import json
import statistics
from pathlib import Path

import pytest

from research.util.errors import UserError
from tools import cli
from tools.verbs import crossvalidate, train

NAME = "text_classification/tiny"


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Instead of training: logs in which fold k is best at step 2 on validation, and at step 1 on test."""
    calls = []

    def run(name, overrides, workdir):
        calls.append((name, list(overrides), workdir))
        fold = len(calls) - 1
        rows = [
            {"step": 1, "split": "valid", "values": {"accuracy": 0.5}},
            {"step": 1, "split": "test", "values": {"accuracy": 0.99}},
            {"step": 2, "split": "valid", "values": {"accuracy": 0.6}},
            {"step": 2, "split": "test", "values": {"accuracy": 0.7 + 0.1 * fold}},
            {"step": 3, "split": "valid", "values": {"accuracy": 0.4}},
            {"step": 3, "split": "test", "values": {"accuracy": 0.1}},
        ]
        workdir.mkdir(parents=True)
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    monkeypatch.setattr(train, "run", run)
    monkeypatch.chdir(tmp_path)
    return calls


def test_every_fold_is_held_out_once_and_its_number_chosen_on_validation(trained, tmp_path, capsys):
    assert cli.main(["crossvalidate", NAME, "--folds=3", "--workdir=cv", "--config.seed=4"]) == 0
    assert [words for _, words, _ in trained] == [["seed=4", "data.folds=3", f"data.fold={k}"] for k in range(3)]
    assert [path.name for *_, path in trained] == ["fold_0", "fold_1", "fold_2"]
    said = json.loads((tmp_path / "cv" / "folds.json").read_text())
    values = [0.7, 0.8, 0.9]
    assert said["values"] == pytest.approx(values) and said["select"] == "max:valid/accuracy"
    assert said["mean"] == pytest.approx(0.8) and said["sd"] == pytest.approx(statistics.stdev(values))
    assert "test/accuracy 0.8000 ± 0.1000 (3 folds: 0.7000, 0.8000, 0.9000)" in capsys.readouterr().out


def test_real_folds(tmp_path):
    """Two folds of a table that a word tells: trained for real, in another process's stead."""
    rows = [f"a {'fine' if i % 2 else 'poor'} thing {i},{'yes' if i % 2 else 'no'}" for i in range(48)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    changes = [
        "data.source=files",
        f"data.path={tmp_path / 'a.csv'}",
        "model.width=8",
        "model.buckets=8",
        "num_steps=24",
    ]
    changes += ["eval_every=12", "save_every=12", "data.length=8", "data.batch_size=8", "data.eval_batch_size=8"]
    found = crossvalidate.cross_validate(
        "text_classification/pydoc_ngrams", 2, tmp_path / "cv", "test/accuracy", changes
    )
    assert found["values"] == [1.0, 1.0] and found["sd"] == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["text_classification/tyny"], "did you mean 'text_classification/tiny'?"),
        (["image_classification/tiny"], "image_classification/tiny has no data.folds"),
        ([NAME, "--folds=1"], "--folds=1: a whole number, at least 2"),
        ([NAME, "--config.best.metric=test/accuracy"], "would select on the held-out fold"),
    ],
)
def test_mistakes(trained, capsys, argv, message):
    assert cli.main(["crossvalidate", *argv]) == 2
    assert message in capsys.readouterr().err and not trained


def test_a_metric_that_no_fold_has(trained):
    with pytest.raises(UserError, match="no 'test/acuracy' in the log; did you mean"):
        crossvalidate.cross_validate(NAME, 2, Path("cv"), "test/acuracy")

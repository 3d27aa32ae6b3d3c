"""Sets to evaluate on that a config names: other sources, encoded as the run's own data."""

import json

import numpy as np
import pytest
from PIL import Image

from research.core import config, evaluation
from research.data.text import labelled_corpora
from research.run import reopen
from research.util.errors import UserError
from tools.verbs import evaluate, train

REVIEWS = "text,label\nthe if statement is executed,statements\nan integer literal is a number,lexis and execution\n"


def build(family, *changes):
    return reopen.build(family, config.load(f"{family}/tiny", changes))


@pytest.fixture
def reviews(tmp_path):
    file = tmp_path / "other.csv"
    file.write_text(REVIEWS)
    return file


def of_csv(file, name="other"):
    return [f"evals.{name}.source=files", f"evals.{name}.path={file}"]


def test_labelled_texts_have_our_tokens_and_our_class_numbers(reviews):
    e = build("text_classification", *of_csv(reviews), "evals.other.every=6")
    batch = e.evals["other"].batch(0)
    assert batch["mask"].sum() == 2 and list(e.evals) == ["valid", "test", "other"]
    assert [e.data.classes[i] for i in batch["label"][:2]] == ["statements", "lexis and execution"]
    ours = e.data.codec.encode("an integer literal is a number")
    length = int(batch["length"][1])
    np.testing.assert_array_equal(batch["tokens"][1, :length], ours["tokens"][0])
    assert evaluation.intervals(e)["other"] == 6


def test_what_a_further_set_left_out_is_told(tmp_path):
    file = tmp_path / "other.csv"
    file.write_text(f"{REVIEWS}one, two,statements\n")
    report = build("text_classification", *of_csv(file)).data.report
    assert report[-2:] == ["skipped  1", "         line 4: 3 cells under 2 names"]


def test_a_part_of_another_source(reviews):
    e = build("text_classification", "evals.again.source=pydoc", "evals.again.part=train")
    corpus = labelled_corpora.load({"source": "pydoc"})
    assert len(e.evals["again"].source) == len(corpus.parts["train"].texts)
    assert evaluation.intervals(e)["again"] == e.cfg.eval_every  # the usual interval


@pytest.mark.parametrize(
    "changes, words",
    [
        (["evals.other.source=pydoc", "evals.other.part=tests"], "the set's part = 'tests'; known: train"),
        (["evals.other.source=files"], "data.path is not set"),
        (["evals.other.sauce=files"], "no config key 'evals.other.sauce'; did you mean 'source'?"),
        (["evals.other.source=pydoc", "evals.other.text_key=body"], "evals.other.text_key = 'body' is read by nothing"),
        (["evals.valid.source=pydoc"], "evals.valid.source: the data has a valid part"),
        (["evals.other.every=3"], "evals.other: there is no such split"),
    ],
)
def test_bad_sets_of_texts(changes, words):
    with pytest.raises(UserError) as caught:
        evaluation.intervals(build("text_classification", *changes))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_class_that_the_model_lacks_is_named(reviews):
    reviews.write_text(REVIEWS + "good,positive\n")
    with pytest.raises(UserError, match="the set's class 'positive' is none that the model has"):
        build("text_classification", *of_csv(reviews))


def test_a_family_without_further_sets_says_so():
    with pytest.raises(UserError, match="this family has no further sets to evaluate on"):
        build("bert", "evals.other.source=pydoc")


@pytest.mark.parametrize("change", ["data.packing=None", "data.packing=True"])
def test_a_text_in_our_windows(tmp_path, change):
    file = tmp_path / "text.txt"
    file.write_text("import this\n" * 200)
    e = build("language_model", *of_csv(file), change)
    batches = e.evals["other"]
    batch = batches.batch(0)
    text = e.data.tokenizer.decode(batch["tokens"][0])
    assert text.startswith("import this\nimpo") and batch.keys() == e.evals["valid"].batch(0).keys()
    assert batches.batch_size == e.evals["valid"].batch_size
    rows = map(batches.batch, range(len(batches)))
    assert sum((b["token_mask"] * b["mask"][:, None]).sum() for b in rows) == 200 * len("import this\n") - 1


def test_a_character_that_the_vocabulary_lacks_is_named(tmp_path):
    (tmp_path / "text.txt").write_text("snow \N{SNOWMAN} " * 100)
    with pytest.raises(UserError, match="\N{SNOWMAN}"):
        build("language_model", *of_csv(tmp_path / "text.txt"))


def test_pictures_of_our_size_with_our_numbers(tmp_path):
    for name, level in (("7", 40), ("2", 200)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((20, 20), level + i, np.uint8)).save(tmp_path / "pictures" / name / f"{i}.png")
    e = build("image_classification", *of_csv(tmp_path / "pictures"))
    batch = e.evals["other"].batch(0)
    real = batch["mask"] > 0
    assert batch["image"].shape[1:] == (8, 8, 1) and real.sum() == 6
    levels = np.round(batch["image"][real].mean((1, 2, 3)) * 255)
    assert sorted(zip(batch["label"][real].tolist(), levels.tolist(), strict=True)) == [
        *((2, 200 + i) for i in range(3)), *((7, 40 + i) for i in range(3)),
    ]  # fmt: skip
    assert sorted(e.evals["other"].source.labels().tolist()) == [2, 2, 2, 7, 7, 7]


def test_a_run_is_evaluated_on_a_set_that_its_config_did_not_have(tmp_path, reviews, capsys):
    run = tmp_path / "run"
    cfg = config.load("text_classification/tiny", [*of_csv(reviews, "mine"), "evals.mine.every=None", "num_steps=6"])
    train.trainer("text_classification/tiny")(cfg, run)
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert not any("mine" in str(line) for line in logged)  # by command alone
    capsys.readouterr()
    values = []
    for words in (["--split=mine"], ["--split=other", *(f"--config.{c}" for c in of_csv(reviews))]):
        assert evaluate.main([str(run), "--json", "--checkpoint=last", *words]) == 0
        values.append(json.loads(capsys.readouterr().out)["values"])
    assert values[0] == values[1] and 0 <= values[0]["accuracy"] <= 1
    with pytest.raises(UserError, match="config key seed of a run that was trained stays as it is"):
        evaluate.main([str(run), "--config.seed=3"])

"""The family's own options: class weights in the loss, and macro F1."""

import json
import warnings

import jax
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from experiments.text_classification import train as family
from research.core import config
from research.losses.classification import balanced_weights
from research.util.errors import UserError
from tools import cli


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    rows = [f"text {i} is {'rare' if i % 4 == 0 else 'usual'},{'no' if i % 4 == 0 else 'yes'}" for i in range(120)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return [f"data.path={path}", "data.source=files"]


def small(changes):
    return config.load("text_classification/tiny", changes)


def test_macro_f1_is_measured_where_it_is_asked_for(texts, tmp_path):
    family.train(small([*texts, "macro_f1=True", "best.metric=valid/macro_f1", "class_weights=balanced"]), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    valid = [row["values"] for row in rows if row["split"] == "valid"]
    assert {*valid[-1]} == {"loss", "accuracy", "f1/no", "f1/yes", "macro_f1"}
    assert valid[-1]["macro_f1"] == pytest.approx((valid[-1]["f1/no"] + valid[-1]["f1/yes"]) / 2)
    (file,) = tmp_path.glob("samples/*scores.json")
    scores = json.loads(file.read_text())  # of the best step, from whole outputs
    assert scores["valid"]["macro_f1"] == pytest.approx(max(values["macro_f1"] for values in valid), abs=1e-6)
    assert np.sum(scores["valid"]["confusion"]) == scores["valid"]["examples"]
    assert list(tmp_path.glob("samples/*confusion_valid.png"))


def test_quadratic_kappa_is_measured_where_it_is_asked_for(tmp_path):
    """A user's file of scores; the log's is scikit-learn's of the confusion matrix at the best step."""
    rows = [json.dumps({"text": f"answer {i} {'right ' * (i % 4)}", "label": i % 4}) for i in range(160)]
    (tmp_path / "answers.jsonl").write_text("\n".join(rows))
    keys = [f"data.path={tmp_path / 'answers.jsonl'}", "data.source=files", "quadratic_kappa=True"]
    family.train(small([*keys, "best.metric=valid/quadratic_kappa"]), tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    valid = [row["values"] for row in rows if row["split"] == "valid"]
    assert {*valid[-1]} == {"loss", "accuracy", "absolute_error", "quadratic_kappa"}
    (file,) = tmp_path.glob("run/samples/*scores.json")
    confusion = np.array(json.loads(file.read_text())["valid"]["confusion"])
    labels, predictions = np.indices((4, 4)).reshape(2, 16).repeat(confusion.ravel(), 1)
    want = cohen_kappa_score(labels, predictions, weights="quadratic")
    assert max(values["quadratic_kappa"] for values in valid) == pytest.approx(want, abs=1e-6)


def test_class_weights_change_the_objective_alone(texts):
    """The mean of a batch, its texts weighed by n / (2 x their class's number)."""
    e = family.build(small([*texts, "model.dropout=0.0"]))
    batch, labels = e.train.batch(0), e.train.source.labels
    params = e.init_fn(jax.random.key(0))["params"]
    weights = balanced_weights(labels, 2)
    terms, (metrics, _) = family.loss(e.model, params, {}, batch, jax.random.key(1), weights)
    _, (plain, _) = family.loss(e.model, params, {}, batch, jax.random.key(1))
    p = family.predict(e.model, {"params": params}, batch)["probabilities"]
    each = -np.log(np.asarray(p)[np.arange(16), batch["label"]])
    w = (len(labels) / (2 * np.bincount(labels)))[batch["label"]]
    total, weight, _ = terms["loss"]
    assert float(total / weight) == pytest.approx((w * each).sum() / w.sum(), rel=1e-5)
    assert metrics == plain


def test_a_weight_that_is_unknown(texts):
    with pytest.raises(UserError, match="class_weights = 'inverse': 'balanced', or None for none"):
        family.build(small([*texts, "class_weights=inverse"]))


CHINESE = "".join(
    f"第{i}本书质量{'很好，值得买' if i % 2 else '太差，不推荐'}。\t{'好' if i % 2 else '差'}\n" for i in range(60)
)


@pytest.mark.parametrize("tokenizer", ["jieba", "char", "bpe"])
def test_a_chinese_text_is_predicted(tokenizer, tmp_path, capsys):
    """With a word, 手机, and characters that training lacks."""
    if tokenizer == "jieba":
        pytest.importorskip("jieba")
    (tmp_path / "texts.tsv").write_text(f"text\tlabel\n{CHINESE}", encoding="utf-8")
    (tmp_path / "review.txt").write_text("这部手机质量很好。\n", encoding="utf-8")
    option = "data.vocab_size=280" if tokenizer == "bpe" else "data.vocab_size=None"
    more = [f"data.tokenizer={tokenizer}", option, *(["data.min_count=1"] if tokenizer != "bpe" else [])]
    data = [f"data.path={tmp_path / 'texts.tsv'}", "data.source=files", "data.normalise=none"]
    family.train(small([*data, *more, "num_steps=2", "optim.warmup=0"]), tmp_path / "run")
    capsys.readouterr()
    assert cli.main(["predict", str(tmp_path / "run"), str(tmp_path / "review.txt")]) == 0
    said = capsys.readouterr().out
    assert "好" in said or "差" in said
    out = tmp_path / "why"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")  # a box in a picture
        assert (
            cli.main(["explain", str(tmp_path / "run"), "--text=这部手机质量很好。", f"--out={out}", "--steps=2"]) == 0
        )
    word = {"jieba": "质量", "char": "质"}.get(tokenizer, "")
    assert f"{word}</span>" in out.with_suffix(".html").read_text(encoding="utf-8")

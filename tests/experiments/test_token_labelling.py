"""Scores by word against scikit-learn; the models with a CRF; entities of a file in columns, from training to prediction."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from experiments.token_labelling import heads
from experiments.token_labelling import train as family
from research.core import config, mesh, metrics, state
from research.data.text.token_labels import NONE
from research.evals import entities, f1
from research.nn import crf
from research.serving import packing
from research.util.nested import flatten
from tests.contract.families import experiment
from tests.contract.in_process.test_contract import losses, quiet
from tools import cli

rng = np.random.default_rng(0)
BILSTM = (
    "model.name=bilstm",
    "model.width=16",
    "model.hidden=24",
    "finetune.layer_decay=1.0",
    "finetune.unfreeze_every=0",
)
MODELS = {"bert": ("model.crf=True",), "bilstm": (*BILSTM, "model.crf=True")}
TEXT = [("John", "B-PER"), ("Smith", "I-PER"), ("saw", "O"), ("New", "B-LOC"), ("York", "I-LOC"), ("today", "O")]


def test_scores_by_word_are_scikit_learns():
    """Two batches; rows that fill up, padding and later pieces do not count."""
    classes, sums, truth, predicted = ("low", "very high", "none"), [], [], []
    for rows in (4, 2):
        labels = rng.integers(NONE, 3, (4, 6)).astype(np.int32)
        mask = (np.arange(4) < rows).astype(np.float32)
        logits = rng.normal(size=(4, 6, 3)).astype(np.float32)
        outputs, batch = {"scores": jnp.asarray(logits)}, {"labels": labels, "mask": mask}
        sums.append(family.batch_metrics(heads.SOFTMAX, outputs, batch, classes=classes))
        kept = (labels != NONE) & (mask[:, None] > 0)
        truth += labels[kept].tolist()
        predicted += logits.argmax(-1)[kept].tolist()
    values = f1.add_macro(metrics.reduce(sums))
    assert values["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    for name, want in zip(("low", "very_high", "none"), f1_score(truth, predicted, average=None), strict=True):
        assert values[f"f1/{name}"] == pytest.approx(want)
    assert values["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))


def test_a_class_that_is_nowhere_counts_as_zero():
    values = family.split_metrics({"f1/a": 1.0, "f1/b": float("nan"), "loss": 2.0})
    assert values == {"f1/a": 1.0, "f1/b": 0.0, "loss": 2.0, "macro_f1": 0.5}


def test_a_chains_loss_is_that_of_the_words_alone():
    """Its logits without padding and later pieces, row by row; the metrics are of the best path."""
    chain = crf.Chain(*(rng.normal(size=shape).astype(np.float32) for shape in ((3,), (3, 3), (3,))))
    logits, labels = rng.normal(size=(4, 6, 3)).astype(np.float32), rng.integers(NONE, 3, (4, 6)).astype(np.int32)
    batch = {"labels": labels, "mask": np.array([1, 1, 1, 0], np.float32)}
    sums = family.batch_metrics(heads.CRF, {"scores": (logits, chain)}, batch, classes=("a", "b", "c"))
    nats, right = 0.0, 0
    for row, wanted in zip(logits[:3], labels[:3], strict=True):
        words = (row[wanted != NONE][None], wanted[wanted != NONE][None])
        inside = np.ones(words[1].shape, bool)
        nats += float(crf.negative_log_likelihood(*words, inside, chain)[0])
        right += int((crf.viterbi(words[0], inside, chain)[0] == words[1]).sum())
    count = (labels[:3] != NONE).sum()
    assert [float(x) for x in sums["loss"]] == pytest.approx([nats, count], rel=1e-5)
    assert [float(x) for x in sums["accuracy"]] == [right, count]


@pytest.mark.parametrize("model", MODELS)
def test_the_contract_holds_with_a_chain(model, tmp_path):
    """On eight devices it learns what it learns on one, microbatches are the batch, and the export is the model."""
    one, e = {"data": 1, "model": 1}, experiment("token_labelling", *MODELS[model], *quiet("token_labelling"))
    alone, params = losses(e, one, (), 2)
    parts = experiment("token_labelling", *MODELS[model], *quiet("token_labelling"), "optim.accumulate=2")
    others = [losses(e, {"data": 8, "model": 1}, e.sharding["fsdp"], 2), losses(parts, one, (), 2)]
    for rows, other in others:
        assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in alone], rel=1e-4)
        worst = max(jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), params, other)))
        assert worst < 5e-3
    now = state.create(e.init_fn, e.tx, 0, mesh.make_mesh({"data": 1}, jax.devices()[:1]))
    manifest = packing.pack(tmp_path / "bundle", e, now, {"name": "token_labelling/tiny"})
    assert manifest["parity"]["stablehlo"]["largest_difference"] < 1e-5


def test_a_chain_leaves_the_paths_of_the_network():
    """So that a pre-trained encoder is found by path, and layers keep their rates."""
    paths = [flatten(jax.eval_shape(experiment("token_labelling", f"model.crf={on}").init_fn, jax.random.key(0)))
             for on in (False, True)]  # fmt: skip
    assert paths[1].keys() - paths[0].keys() == {f"params.crf.{name}" for name in ("start", "transitions", "end")}
    assert paths[0].keys() <= paths[1].keys()


def test_entities_of_a_file(tmp_path, capsys):
    """It learns them, scores them as sequences are scored, and finds them in a text."""
    lines = "\n".join(f"{word} {label}" for word, label in TEXT)
    (tmp_path / "ner.conll").write_text("\n\n".join([lines] * 20), encoding="utf-8")
    keys = ["source=conll", f"path={tmp_path / 'ner.conll'}", "tokenizer=bpe", "vocab_size=300", "length=32"]
    words = [*(f"data.{key}" for key in keys), "num_steps=60", "optim.peak_lr=0.02", "eval_every=60", *MODELS["bilstm"]]
    words = [f"--config.{word}" for word in words]
    assert cli.main(["train", "token_labelling/tiny", f"--workdir={tmp_path / 'run'}", *words]) == 0
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["split"] == "valid" and last["values"]["span_f1"] == last["values"]["accuracy"] == 1
    assert "warning  2 of 2 sentences of valid are sentences of train, too" in capsys.readouterr().out
    (tmp_path / "text.txt").write_text(" ".join(word for word, _ in TEXT))
    assert cli.main(["predict", str(tmp_path / "run"), str(tmp_path / "text.txt")]) == 0
    out = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert out["spans"] == [["John Smith", "PER"], ["New York", "LOC"]]
    assert [(word, label) for word, label, _ in out["words"]] == TEXT and all(p > 0.5 for *_, p in out["words"])


def test_spans_of_batches_are_those_of_sequences():
    classes = ("O", "B-A", "I-A")
    labels = rng.integers(NONE, 3, (5, 9)).astype(np.int32)
    logits = rng.normal(size=(5, 9, 3)).astype(np.float32)
    batch = {"labels": labels, "mask": np.array([1, 1, 1, 1, 0], np.float32)}
    spans = ("span", entities.tables(classes))
    sums = family.batch_metrics(heads.SOFTMAX, {"scores": jnp.asarray(logits)}, batch, classes=classes, spans=spans)
    values = metrics.reduce([sums])
    rows = [[[classes[k] for k in row[kept]] for row, kept in zip(x[:4], labels[:4] != NONE, strict=True)]
            for x in (labels, logits.argmax(-1))]  # fmt: skip
    for name, want in entities.score(*rows).items():
        assert values[f"span_{name}"] == pytest.approx(want)


def test_an_old_config_is_todays_bert():
    """Its model group had no name."""
    cfg = config.load("token_labelling/tiny").to_dict()
    old = {**cfg, "model": {key: value for key, value in cfg["model"].items() if key not in ("name", "crf")}}
    assert config.upgrade.upgrade(old, 2)["model"] == dict(cfg["model"])

"""Scores by word against scikit-learn, and words of a file with their labels."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from experiments.token_labelling import train as family
from research.core import config, metrics
from research.data import user_files
from research.data.text import labelled_words
from research.data.text.labelled_words import NONE
from research.util.errors import UserError

rng = np.random.default_rng(0)


def test_scores_by_word_are_scikit_learns():
    """Two batches; rows that fill up, padding and later pieces do not count."""
    classes, pairs, truth, called = ("low", "very high", "none"), [], [], []
    for rows in (4, 2):
        labels = rng.integers(NONE, 3, (4, 6)).astype(np.int32)
        mask = (np.arange(4) < rows).astype(np.float32)
        logits = rng.normal(size=(4, 6, 3)).astype(np.float32)
        pairs.append(family.measure(classes, {"logits": jnp.asarray(logits)}, {"labels": labels, "mask": mask}))
        kept = (labels != NONE) & (mask[:, None] > 0)
        truth += labels[kept].tolist()
        called += logits.argmax(-1)[kept].tolist()
    values = family.with_macro(metrics.reduce(pairs))
    assert values["accuracy"] == pytest.approx(accuracy_score(truth, called))
    for name, want in zip(("low", "very_high", "none"), f1_score(truth, called, average=None), strict=True):
        assert values[f"f1/{name}"] == pytest.approx(want)
    assert values["macro_f1"] == pytest.approx(f1_score(truth, called, average="macro"))


def test_a_class_that_is_nowhere_counts_as_zero():
    values = family.with_macro({"f1/a": 1.0, "f1/b": float("nan"), "loss": 2.0})
    assert values == {"f1/a": 1.0, "f1/b": 0.0, "loss": 2.0, "macro_f1": 0.5}


def test_a_file_is_labelled_word_by_word(tmp_path):
    data = labelled_words.load(config.load("token_labelling/tiny").data)
    (tmp_path / "text.txt").write_text("the function returns\n an unheardof  value")
    inputs = family.encode(data, user_files.read(tmp_path / "text.txt"))
    p = np.full((1, *inputs["tokens"].shape[1:], 4), 0.1)
    first = np.flatnonzero(inputs["starts"][0])
    p[0, first, [0, 1, 2, 3, 0, 2][: len(first)]] = 0.7
    said = family.decode(data, {"probabilities": p, **inputs})["words"]
    assert [word for word, *_ in said] == ["the", "function", "returns", "an", "unheardof", "value"][: len(first)]
    assert len(first) > 3 and said[:4] == [
        ["the", "none", 0.7], ["function", "comma", 0.7], ["returns", "period", 0.7], ["an", "colon", 0.7],
    ]  # fmt: skip
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(UserError, match=r"the text is empty"):
        family.encode(data, user_files.read(tmp_path / "empty.txt"))

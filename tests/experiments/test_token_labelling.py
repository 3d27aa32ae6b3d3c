"""Scores by word against scikit-learn."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from experiments.token_labelling import heads
from experiments.token_labelling import train as family
from research.core import metrics
from research.data.text.token_labels import NONE

rng = np.random.default_rng(0)


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
    values = family.split_metrics(metrics.reduce(sums))
    assert values["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    for name, want in zip(("low", "very_high", "none"), f1_score(truth, predicted, average=None), strict=True):
        assert values[f"f1/{name}"] == pytest.approx(want)
    assert values["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))


def test_a_class_that_is_nowhere_counts_as_zero():
    values = family.split_metrics({"f1/a": 1.0, "f1/b": float("nan"), "loss": 2.0})
    assert values == {"f1/a": 1.0, "f1/b": 0.0, "loss": 2.0, "macro_f1": 0.5}

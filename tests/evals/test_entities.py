"""Spans against seqeval."""

import jax.numpy as jnp
import numpy as np
import pytest
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

from research.data.text.label_spans import spans
from research.evals import entities

CLASSES = ("O", *(f"{prefix}-{kind}" for kind in ("PER", "LOC", "X-Y") for prefix in "BIES"))
METRICS = {"precision": precision_score, "recall": recall_score, "f1": f1_score}


def sequences(rng, classes, likely=0.5):
    """Ten sequences, and others that agree with them at most positions."""
    true = [rng.choice(classes, rng.integers(1, 12)).tolist() for _ in range(10)]
    return true, [[b if rng.random() > likely else rng.choice(classes).item() for b in row] for row in true]


@pytest.mark.parametrize("classes", [CLASSES, ("O", "B-A", "I-A", "B-B", "I-B"), ("B", "I", "E", "S"), ("O", "I-A")])
def test_spans_and_scores_are_seqevals(classes):
    rng = np.random.default_rng(0)
    for _ in range(60):
        true, predicted = sequences(rng, classes)
        for row in true:
            want = [(kind.replace("_", ""), first, last) for kind, first, last in get_entities(row)]
            assert spans(row) == want, row
        values = entities.score(true, predicted)
        for name, metric in METRICS.items():
            assert values[name] == pytest.approx(metric(true, predicted, zero_division=0)), (true, predicted)


@pytest.mark.parametrize("classes", [CLASSES, ("B", "M", "E", "S")])
def test_counts_of_arrays_are_those_of_sequences(classes):
    """With positions outside anywhere in a row, which are no part of its sequence."""
    rng, tables = np.random.default_rng(1), entities.tables(classes)
    for _ in range(20):
        labels, inside = rng.integers(0, len(classes), (6, 14)), rng.random((6, 14)) < 0.7
        inside[0] = False
        predicted = np.where(rng.random(labels.shape) < 0.3, rng.integers(0, len(classes), labels.shape), labels)
        rows = [
            [[classes[i] for i in row[kept]] for row, kept in zip(x, inside, strict=True)] for x in (labels, predicted)
        ]
        found = [[set(spans(row)) for row in each] for each in rows]
        both = sum(len(a & b) for a, b in zip(*found, strict=True))
        want = [both, sum(map(len, found[1])), sum(map(len, found[0]))]
        got = entities.counts(jnp.asarray(labels), jnp.asarray(predicted), jnp.asarray(inside), tables)
        assert [float(x) for x in got] == want


def test_nothing_found_scores_zero():
    assert entities.score([["O"]], [["O"]]) == {"precision": 0, "recall": 0, "f1": 0}


def test_a_segmentation_is_scored_by_its_words():
    """By hand: of three words one is cut in two, so two of four are right."""
    true, predicted = list("BESBME"), list("BESSBE")
    assert entities.score([true], [predicted]) == {"precision": 2 / 4, "recall": 2 / 3, "f1": 4 / 7}

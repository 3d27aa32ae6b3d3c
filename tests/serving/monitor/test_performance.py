"""Accuracy and calibration of rows with labels, by hand."""

import numpy as np
import pytest

from research.serving.monitor import performance, store
from research.serving.monitor.reference import Reference
from research.serving.monitor.store import Store
from research.serving.monitor.tables import Answer, Feedback, Request


@pytest.fixture
def made(tmp_path):
    """Ten rows that say "cat" with confidence 0.8; of the first eight seven are, and one is a dog."""
    made = Store(tmp_path)
    made.add(
        [Request(str(i), 0.0, "/v1/predict", 200, 0.1, 1) for i in range(10)],
        [Answer(str(i), 0, 0.0, "pets", "1", confidence=0.8, prediction="cat") for i in range(10)],
    )
    made.add_feedback([Feedback(str(i), 0, "dog" if i == 7 else "cat", "new" if i < 2 else None) for i in range(8)])
    made.add_feedback([Feedback("8", 0, rating=1)])  # without a label
    return store.merged([tmp_path])


def test_accuracy_and_calibration_are_of_the_rows_with_labels(made):
    found = performance.measure(made, "pets", "1")
    assert (found["labels"], found["accuracy"]) == (8, 7 / 8)
    assert found["standard_error"] == pytest.approx((7 / 8 * 1 / 8 / 8) ** 0.5)
    assert found["calibration_error"] == pytest.approx(7 / 8 - 0.8)


def test_a_subgroup_is_the_labels_own_or_the_true_class(made):
    found = performance.measure(made, "pets", "1")["subgroups"]
    assert {name: (each["labels"], each["accuracy"]) for name, each in found.items()} == {
        "new": (2, 1), "cat": (5, 1), "dog": (1, 0),
    }  # fmt: skip


def test_without_labels_there_is_nothing_to_say(made):
    assert performance.measure(made, "pets", "2") is None


def test_a_reference_has_the_accuracy_at_export():
    signals = {"class": np.eye(2, dtype=np.float32)[[0, 1, 1, 0]], "confidence": np.full((4, 1), 0.75, np.float32)}
    found = performance.at_export(Reference(signals, np.array([0, 1, 0, 0])))
    assert (found["accuracy"], found["calibration_error"]) == (0.75, 0)
    assert performance.at_export(Reference(signals)) is None

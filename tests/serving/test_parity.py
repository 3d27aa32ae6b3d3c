"""How well two forms of a model agree, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from research.data.pipeline import Arrays, EvalBatches
from research.serving import parity

ROWS = {"x": np.arange(3, dtype=np.float32), "label": np.array([0, 1, 1], np.int32)}
CODEC = SimpleNamespace(inputs={"x": (("b",), "float32")}, constraints=())


def experiment(classes=None):
    evals = {"test": EvalBatches(Arrays(ROWS), 2), "valid": EvalBatches(Arrays(ROWS), 2)}
    return SimpleNamespace(predictor=SimpleNamespace(codec=CODEC), evals=evals, data=SimpleNamespace(classes=classes))


def probabilities(of_one):
    return lambda inputs: {"probabilities": np.stack([1 - of_one(inputs["x"]), of_one(inputs["x"])], -1)}


def test_difference_and_agreement_by_hand():
    model, other = probabilities(lambda x: 0.4 * x), probabilities(lambda x: 0.4 * x + 0.2 * (x == 1))
    found = parity.measure(other, model, experiment())
    # Rows 0, 1 and 2, and row 0 once more, which fills the batch up: of row 1 0.4 became 0.6.
    assert found == {"on": "4 examples of valid", "largest_difference": pytest.approx(0.2), "agreement": 0.75}


def test_its_line():
    found = {"on": "4 examples of valid", "largest_difference": 0.2, "agreement": 0.75}
    text = "onnx against the run, on 4 examples of valid: largest difference 2.0e-01, the same choice in 75.00%"
    assert parity.line("onnx", found) == text
    found["milliseconds"] = {"onnx": 0.08287, "stablehlo": 12.0}
    assert parity.line("onnx", found) == f"{text}; a row takes 0.0829 ms on one core, by StableHLO 12 ms"


@pytest.mark.parametrize(("a", "b", "expected"), [(np.inf, np.inf, 0), (np.nan, np.nan, 0), (1, np.nan, np.nan)])
def test_what_is_not_finite(a, b, expected):
    forms = [lambda inputs, value=value: {"y": np.full(len(inputs["x"]), value)} for value in (a, b)]
    found = parity.measure(*forms, experiment())["largest_difference"]
    assert found == expected or np.isnan(found) and np.isnan(expected)


def test_accuracy_by_class_counts_no_row_twice():
    found = parity.by_class(probabilities(lambda x: 0.4 * x), experiment(("no", "yes")))
    # Row 1 is taken for a "no"; of the last batch the second row fills up.
    assert found["split"] == "valid"
    assert found["classes"] == {"no": {"examples": 1, "accuracy": 1.0}, "yes": {"examples": 2, "accuracy": 0.5}}
    assert parity.by_class(probabilities(lambda x: x), experiment()) is None

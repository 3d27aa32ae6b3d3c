"""The in-context family: its metrics, its inputs from a file, and its curves."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments.in_context import plot, train
from research.core import config, metrics
from research.run import reopen
from research.util.errors import UserError


@pytest.fixture(scope="module")
def tiny():
    return reopen.build("in_context/tiny", config.load("in_context/tiny"))


def test_errors_by_number_of_examples():
    """Two prompts and a padded third: predictions 1 off at the first point, 2 off at the second in one prompt."""
    clean = np.array([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]])
    outputs = {"y": clean + np.array([[1.0, 2.0], [-1.0, 0.0], [5.0, 5.0]])}
    batch = {"clean": clean, "y": clean + 1, "mask": np.array([1.0, 1.0, 0.0])}
    means = metrics.reduce([jax.device_get(train.batch_metrics(outputs, batch))])
    assert means == pytest.approx({"error_00": 1, "error_01": 2, "error": 1.5, "loss": (0 + 1 + 4 + 1) / 4})


def test_the_worst_ratio_is_past_d():
    errors = {"least squares": np.array([4.0, 9.0, 9.0, 2.0, 1.0])}
    data = SimpleNamespace(dims=2, points=5, noise=1.0, errors=errors)
    values = {f"error_{i:02d}": v for i, v in enumerate([8.0, 99.0, 99.0, 3.0, 1.1])}
    # After 3 examples 3 / 2, after 4 1.1.
    assert train.worst_ratio(data, values) == values | {"worst_ratio": pytest.approx(1.5)}
    data.dims = 4  # no number of examples is above d
    assert train.worst_ratio(data, values) == values
    data.dims, data.noise = 2, 0.0  # least squares does not err at all
    assert train.worst_ratio(data, values) == values


def test_the_curves_are_written(tiny, tmp_path):
    state = SimpleNamespace(variables=jax.jit(tiny.init_fn)(jax.random.key(0)))
    curves = train.error_curves(tiny, state)
    assert list(curves) == ["transformer", *tiny.data.errors]
    train.write_curves(curves, tmp_path / "errors.json")
    rows = [tiny.eval_step(state, tiny.evals["valid"].batch(i)) for i in range(3)]
    values = metrics.reduce(jax.device_get(rows))
    written = json.loads((tmp_path / "errors.json").read_text())
    assert written["transformer"] == pytest.approx([values[f"error_{i:02d}"] for i in range(8)], rel=1e-5)
    assert written["ridge"] == pytest.approx(tiny.data.errors["ridge"], rel=1e-5)
    plot.draw(curves, tiny.data.dims, tmp_path / "errors.png")
    assert (tmp_path / "errors.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_of_examples(tiny, tmp_path):
    file = tmp_path / "examples.csv"
    file.write_text("1,0,0,2\n0,1,0.5,3\n1,1,1,\n")
    found = tiny.predictor.codec.encode(tiny.predictor.codec.read(file))
    np.testing.assert_array_equal(found["x"], [[[1, 0, 0], [0, 1, 0.5], [1, 1, 1]]])
    np.testing.assert_array_equal(found["y"], [[2, 3, 0]])
    said = tiny.predictor.fn(jax.jit(tiny.init_fn)(jax.random.key(0)), found)
    assert tiny.predictor.codec.decode(said) == {"y": pytest.approx(float(said["y"][0, 2]), abs=1e-4)}


@pytest.mark.parametrize(
    "text, words",
    [
        ("1,2\n3,4\n", "is 2 x 2: want 1 to 8 lines of 3 numbers and y"),
        ("1,2,3,4\n" * 9, "is 9 x 4"),
        ("1,2,3,\n1,2,3,4\n", "only the last line's y"),
        ("1,x,3,4\n", "a number is missing"),
        ("1,2,3,4\n1,2\n", "as a CSV"),
    ],
)
def test_bad_files(tiny, tmp_path, text, words):
    file = tmp_path / "examples.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        tiny.predictor.codec.encode(tiny.predictor.codec.read(file))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot read"):
        tiny.predictor.codec.read(tmp_path / "nowhere.csv")

"""A reference is read back as it was written, and damaged ones are refused."""

from types import SimpleNamespace

import numpy as np
import pytest

from research.serving.monitor import reference
from research.util.errors import UserError

CODEC = SimpleNamespace(inputs={"image": (("b", 4, 4, 1), "float32")})


def batches(count, size=30):
    rng = np.random.default_rng(0)
    for _ in range(count):
        mask = np.ones(size)
        mask[-5:] = 0
        image = rng.random((size, 4, 4, 1)).astype(np.float32)
        yield {"image": image, "label": rng.integers(3, size=size), "mask": mask}


def model(inputs):
    return {"probabilities": np.full((len(inputs["image"]), 3), 1 / 3, np.float32)}


def test_padding_is_left_out_and_labels_are_kept():
    made = reference.of_batches(model, CODEC, batches(3))
    first = next(batches(1))["image"]
    assert made.signals["image brightness"].shape == (75, 1) and made.labels.shape == (75,)
    assert made.signals["image brightness"][0, 0] == pytest.approx(first[0].mean())
    assert made.signals["image brightness"][25, 0] != pytest.approx(first[25].mean())


def test_too_few_rows_are_no_reference():
    assert reference.of_batches(model, CODEC, batches(1)) is None


def test_it_is_read_back():
    made = reference.of_batches(model, CODEC, batches(2))
    again = reference.from_bytes(made.to_bytes())
    assert again.signals.keys() == made.signals.keys()
    assert all(np.array_equal(again.signals[name], x) for name, x in made.signals.items())
    assert np.array_equal(again.labels, made.labels)
    assert again.to_bytes() == made.to_bytes()


@pytest.mark.parametrize("change", ["cut", "empty", "another"])
def test_what_is_no_reference_is_refused(change):
    blob = reference.of_batches(model, CODEC, batches(2)).to_bytes()
    other = reference.Reference({"an unknown kind": np.zeros((60, 1))}).to_bytes()
    with pytest.raises(UserError, match="export the run again"):
        reference.from_bytes({"cut": blob[:100], "empty": b"", "another": other}[change])

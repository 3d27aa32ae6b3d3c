"""Segmented pictures: drawn digits and discs; the real ones."""

import numpy as np
import pytest

from research.data.images import segmented
from research.util.errors import UserError


def rows(source):
    return source.gather(np.arange(len(source)), 0)


def test_digits_are_a_function_of_seed_and_index():
    data = segmented.load({"source": "digits", "size": 20}, 3)
    batch = data.parts["train"].gather(np.array([5, 2, 5]), 0)
    again = segmented.load({"source": "digits", "size": 20}, 3).parts["train"].gather(np.array([2, 5]), 1)
    np.testing.assert_array_equal(batch["image"][:2], again["image"][::-1])
    np.testing.assert_array_equal(batch["label"][[0, 1]], again["label"][[1, 0]])
    assert data.shape == (20, 20, 1) and batch["image"].shape == (3, 20, 20, 1)
    other = segmented.load({"source": "digits", "size": 20}, 4).parts["train"].gather(np.array([5]), 0)
    assert (other["image"] != batch["image"][:1]).any()


def test_ink_is_what_is_labelled():
    """A pixel of a digit is darker than any of the ground's noise, so the two tell each other."""
    batch = rows(segmented.load({"source": "digits", "size": 16}, 0).parts["valid"])
    np.testing.assert_array_equal(batch["label"] > 0, batch["image"][..., 0] > segmented.INK)
    assert set(np.unique(batch["label"])) == set(range(11))


def test_discs_are_numbered():
    data = segmented.load({"source": "discs", "size": 32}, 0)
    assert {part: len(data.objects[part]) for part in data.parts} == {"train": 200, "valid": 50, "test": 50}
    label = rows(data.parts["valid"])["label"]
    assert data.shape == (32, 32, 1) and (label <= (data.objects["valid"] > 0)).all() and label.any()


def test_no_such_source():
    with pytest.raises(UserError, match="no source of segmented pictures 'digit'; did you mean 'digits'"):
        segmented.load({"source": "digit"}, 0)


@pytest.mark.data
def test_isbis_slices():
    """Cells are about four fifths of each slice; three slices are held out twice, and none is in two parts."""
    data = segmented.load({"source": "isbi_em"}, 0)
    assert {part: len(source) for part, source in data.parts.items()} == {"train": 24, "valid": 3, "test": 3}
    for source in data.parts.values():
        batch = rows(source)
        assert batch["image"].shape[1:] == (512, 512, 1) and 0.7 < batch["label"].mean() < 0.85


@pytest.mark.data
def test_camvids_pictures():
    data = segmented.load({"source": "camvid"}, 0)
    assert {part: len(source) for part, source in data.parts.items()} == {"train": 367, "valid": 101, "test": 233}
    batch = data.parts["valid"].gather(np.arange(20), 0)
    assert set(np.unique(batch["label"])) <= {*range(11), 255} and batch["image"].shape[1:] == (360, 480, 3)

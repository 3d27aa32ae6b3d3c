"""Parts and classes of a further set."""

import numpy as np
import pytest

from research.data import further_sets
from research.data.images.labelled import ImageSource, Joined
from research.data.pipeline import Arrays
from research.util.errors import UserError


def test_a_part_or_all_of_them():
    assert further_sets.choose_parts(iter(["train", "valid"]), None) == ["train", "valid"]
    assert further_sets.choose_parts(["train", "valid"], "valid") == ["valid"]
    for part in ("test", 3):
        with pytest.raises(UserError, match="the set's part = "):
            further_sets.choose_parts(["train", "valid"], part)


def test_classes_go_by_name():
    assert further_sets.class_numbers(["cat"], ["ant", "bee", "cat"]).tolist() == [2]
    with pytest.raises(UserError, match="class 'cow' is none that the model has; did you mean 'cat'|; known"):
        further_sets.class_numbers(["cow"], ["ant", "cat"])


def test_joined_sources_are_one_after_another():
    arrays = [{"image": np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1), "label": np.arange(n) % 2} for n in (2, 3)]
    sources = [ImageSource(Arrays(a), np.arange(len(a["label"])), lambda a=a: a["label"], white=1) for a in arrays]
    joined = Joined(sources, np.array([5, 7]))
    batch = joined.gather(np.array([4, 0, 2, 1]))
    assert batch["image"].ravel().tolist() == [2, 0, 0, 1] and batch["label"].tolist() == [5, 5, 5, 7]
    assert len(joined) == 5 and joined.labels().tolist() == [5, 7, 5, 7, 5]

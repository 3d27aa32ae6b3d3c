"""BM25 by hand, on three passages of 3, 5 and 1 words: mean 3."""

import math

import numpy as np
import pytest

from research.models.text.bm25 import BM25
from research.util.errors import UserError

PASSAGES = ["The cat sat", "the dog, sat", "bird"]  # 3, 4 (the comma is a word) and 1 words: the mean is 8/3


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4)])
def test_scores_by_hand(k1, b):
    def part(df, tf, length):
        return math.log(1 + (3 - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * length / (8 / 3)))

    index = BM25(PASSAGES, k1, b)
    the, cat, sat = part(2, 1, 3), part(1, 1, 3), part(2, 1, 3)
    np.testing.assert_allclose(index.scores("the CAT sat"), [the + cat + sat, 2 * part(2, 1, 4), 0], rtol=1e-6)
    np.testing.assert_allclose(index.scores("cat cat zebra"), [2 * cat, 0, 0], rtol=1e-6)  # each time it is asked
    np.testing.assert_allclose(
        BM25(["a a b", "c"], k1, b).scores("a")[0], math.log(2) * 2 / (2 + k1 * (1 - b + b * 1.5))
    )
    assert index.scores("zebra").tolist() == index.scores("?").tolist() == [0, 0, 0]


def test_passages_without_a_word():
    with pytest.raises(UserError, match="no word in 2 passages"):
        BM25(["", " "])

"""Packing: every token a target once, segments that do not mix, few empty places."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data import tokenizers
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.text import packed
from research.data.text.packed import Packed
from research.util.errors import UserError


def numbered(sizes):
    """Documents of so many tokens; every token of all is another, from 1."""
    ends = np.cumsum(sizes)
    return [np.arange(end - n, end) + 1 for n, end in zip(sizes, ends, strict=True)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 25), min_size=1, max_size=30), st.integers(1, 12))
def test_every_token_but_the_first_is_a_target_once(sizes, length):
    documents = numbered(sizes)
    if max(sizes) < 2:
        with pytest.raises(UserError, match="no document has two tokens"):
            Packed(documents, length)
        return
    data = Packed(documents, length)
    batch = data.gather(np.arange(len(data)), 0)
    real = batch["token_mask"] == 1
    np.testing.assert_array_equal(np.sort(batch["targets"][real]), np.concatenate([d[1:] for d in documents]))
    np.testing.assert_array_equal(batch["targets"][real], batch["tokens"][real] + 1)
    of = np.repeat(np.arange(len(sizes)), sizes)
    for row in range(len(data)):
        segments, places = batch["segment_ids"][row], batch["position_ids"][row]
        n = int(real[row].sum())
        assert (segments[:n] > 0).all() and not segments[n:].any() and not batch["tokens"][row, n:].any()
        assert np.isin(np.diff(segments[:n]), (0, 1)).all() and segments[0] == 1
        for s in range(1, segments.max() + 1):
            here = segments == s
            assert len(set(of[batch["tokens"][row][here] - 1])) == 1  # of one document
            np.testing.assert_array_equal(places[here], np.arange(here.sum()))
            assert (np.diff(batch["tokens"][row][here]) == 1).all()
    again = Packed(documents, length).gather(np.arange(len(data))[::-1], 3)
    for name in batch:
        np.testing.assert_array_equal(again[name], batch[name][::-1])


def test_best_fit_by_hand():
    # 7, 6 and 5 open windows with room for 3, 4 and 5; then 4 fills the second and 3 the first.
    assert packed._best_fit(np.array([5, 3, 7, 4, 6]), 10) == [[2, 1], [4, 3], [0]]


def test_windows_are_nearly_full():
    sizes = np.random.default_rng(0).integers(2, 200, 2_000)
    data = Packed([np.zeros(n, int) for n in sizes], 256)
    targets = int((sizes - 1).sum())
    assert len(data) <= 1.02 * targets / 256 + 1
    assert data.report.startswith("2,000 documents, 2,000 pieces in ") and data.report.endswith("% empty")


def test_streams_of_windows():
    data = Packed(numbered([5, 9, 3, 3, 7]), 8)
    assert TrainBatches(data, 2, 0).units == {"examples": 2, "tokens": 16}
    assert EvalBatches(data, 4).batch(0)["mask"].sum() == len(data) == 3


def test_documents_have_their_ends():
    assert [d.tolist() for d in packed.encode(["ab", ""], tokenizers.make("char", "ab"))] == [[0, 1], []]
    word = tokenizers.make("word", "a b", special=("bos", "eos"))
    assert [d.tolist() for d in packed.encode(["b a"], word)] == [[2, 5, 4, 3]]
    bpe = tokenizers.make("bpe", "aa", vocab_size=263)
    ((first, *middle, last),) = packed.encode(["aa"], bpe)
    assert (first, last) == (bpe.special["bos"], bpe.special["eos"]) and bpe.decode(middle) == "aa"


def test_mistakes_are_named():
    with pytest.raises(UserError, match="data.length = 0"):
        Packed(numbered([5]), 0)


def test_with_masks_the_targets_that_count_are_the_documents():
    """Documents 1 2 3 and 4 5 6 7: of the first the last token is a target, of the second the middle ones."""
    masks = [np.array([1, 0, 1]), np.array([0, 1, 1, 0])]
    batch = Packed(numbered([3, 4]), 5, masks).gather(np.array([0]))
    assert sorted(batch["targets"][batch["token_mask"] == 1].tolist()) == [3, 5, 6]
    assert (batch["segment_ids"] > 0).sum() == 5

"""Denoising: shuffled sentences and masked spans, by hand and by their sums."""

import numpy as np
import pytest

from research.data import tokenizers
from research.data.buckets import Ragged
from research.data.text.denoising import Denoised, infilled, permuted, sentence_ends
from research.util.errors import UserError

MASK = 9


class Fixed:
    """A generator whose draws are given."""

    def __init__(self, spans=(), gaps=(), order=()):
        self.spans, self.gaps, self.order = iter(spans), gaps, order

    def poisson(self, mean):
        return next(self.spans)

    def choice(self, size, count, replace):
        return np.array(self.gaps)

    def permutation(self, size):
        return np.array(self.order)


def test_spans_by_hand():
    """Half of eight tokens: a span of three, one of length 0 that is drawn again, and one of two that is cut to the rest."""
    tokens = np.arange(10, 18)
    rng = Fixed(spans=[3, 0, 2], gaps=[4, 1])
    np.testing.assert_array_equal(infilled(tokens, MASK, 0.5, rng), [10, MASK, 14, 15, 16, MASK])


def test_sentences_by_hand():
    tokens, ends = np.array([1, 2, 7, 3, 7, 4]), [7]  # the last sentence has no end
    np.testing.assert_array_equal(permuted(tokens, ends, Fixed(order=[2, 0, 1])), [4, 1, 2, 7, 3, 7])
    np.testing.assert_array_equal(permuted(np.array([1, 7]), ends, Fixed(order=[0])), [1, 7])


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 0.95])
def test_the_share_is_masked_and_the_rest_stays_in_order(share):
    for seed in range(50):
        rng = np.random.default_rng(seed)
        tokens = np.arange(10, 10 + rng.integers(1, 40))
        made = infilled(tokens, MASK, share, rng)
        kept = made[made != MASK]
        assert len(kept) == len(tokens) - round(share * len(tokens)) and (np.diff(kept) > 0).all()
        assert len(made) <= len(tokens) and not ((made[1:] == MASK) & (made[:-1] == MASK)).any()


def test_the_mean_span_is_three_tokens():
    """A Poisson of mean 3 without its zeros has mean 3 / (1 - exp(-3)) = 3.157; the last span of a text may be cut short."""
    made = infilled(np.arange(10, 100_010), MASK, 0.3, np.random.default_rng(0))
    assert 30_000 / (made == MASK).sum() == pytest.approx(3.157, rel=0.02)


def test_a_source_is_its_target_corrupted():
    learnt = tokenizers.make("bpe", "One. Two two! three", vocab_size=300)
    eos = learnt.special["eos"]
    texts = [learnt.encode(text) for text in ("One. Two two! three", "One")]
    ends = [np.append(text, eos).astype(np.int32) for text in texts]
    starts = [np.insert(text, 0, learnt.special["bos"]).astype(np.int32) for text in texts]
    source = Denoised(Ragged({"source": ends, "tokens": starts, "targets": ends}), learnt, 0.3, 0)
    batches = [source.gather(np.array([1, 0]), epoch) for epoch in (0, 0, 1)]
    for name in batches[0]:
        np.testing.assert_array_equal(batches[0][name], batches[1][name])  # a pure function of seed, epoch and index
    assert (batches[0]["source"] != batches[2]["source"]).any()
    alone = source.gather(np.array([0]), 0, length=batches[0]["source"].shape[1])
    np.testing.assert_array_equal(alone["source"][0], batches[0]["source"][1])
    for batch in batches:
        np.testing.assert_array_equal(batch["targets"][1][: len(ends[0])], ends[0])
        row = batch["source"][1][batch["source_mask"][1] == 1]
        assert row[-1] == eos and learnt.special["mask"] in row and set(row[:-1]) < {*texts[0], learnt.special["mask"]}


def test_what_ends_a_sentence():
    words = tokenizers.make("word", "Stop. Go! now", special=("mask",))
    assert [words.words[i] for i in sentence_ends(words)] == ["Go!", "Stop."]


def test_what_cannot_be_masked():
    pairs = Ragged({name: [np.array([4])] for name in ("source", "tokens", "targets")})
    with pytest.raises(UserError, match="has no <mask>"):
        Denoised(pairs, tokenizers.make("word", "a", special=("eos",)), 0.3, 0)
    with pytest.raises(UserError, match="data.denoise = 1.0: the share"):
        Denoised(pairs, tokenizers.make("word", "a", special=("mask",)), 1.0, 0)

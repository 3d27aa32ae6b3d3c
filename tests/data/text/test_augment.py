"""Texts changed in training: each operation by its definition, and the source of them."""

import collections

import numpy as np
import pytest

from research.data.text import augment, classification
from research.util.errors import UserError
from tests.data.text.test_classification import KEYS

WORDS = "one two three four five six seven eight nine ten".split()
NEAR = {"two": ["deux", "zwei"], "nine": ["neuf"]}


def drawn(name, share=0.2, near=NEAR, words=WORDS, count=300):
    function = augment.OPERATIONS[name]
    return [function(list(words), share, near, np.random.default_rng(i)) for i in range(count)]


def test_synonyms_replace_a_share_of_the_words_that_have_some():
    for words in drawn("synonyms"):
        assert len(words) == 10 and words[1] in ("deux", "zwei") and words[8] == "neuf", "two of ten, and two have some"
        assert words[:1] + words[2:8] + words[9:] == WORDS[:1] + WORDS[2:8] + WORDS[9:]
    one = drawn("synonyms", share=0.1)
    assert {sum(a != b for a, b in zip(words, WORDS, strict=True)) for words in one} == {1}
    assert drawn("synonyms", near={}, count=1) == [WORDS]


def test_insert_puts_neighbours_anywhere():
    places = collections.Counter()
    for words in drawn("insert", share=0.1):
        (new,) = [i for i, word in enumerate(words) if word not in WORDS]
        assert words[new] in ("deux", "zwei", "neuf") and words[:new] + words[new + 1 :] == WORDS
        places[new] += 1
    assert set(places) == set(range(11))
    assert drawn("insert", near={}, count=1) == [WORDS]


def test_swap_keeps_the_words():
    changed = [sum(a != b for a, b in zip(words, WORDS, strict=True)) for words in drawn("swap", share=0.1)]
    assert set(changed) == {0, 2}, "a word may change places with itself"
    assert all(sorted(words) == sorted(WORDS) for words in drawn("swap"))


def test_delete_leaves_out_each_word_with_the_probability_and_never_all():
    lengths = [len(words) for words in drawn("delete", share=0.3, count=2_000)]
    assert np.mean(lengths) == pytest.approx(7, abs=4 * np.sqrt(10 * 0.3 * 0.7 / 2_000))
    assert all(len(words) == 1 for words in drawn("delete", share=0.999))


def test_a_text_is_a_function_of_seed_epoch_and_index():
    text = " ".join(WORDS)
    change = augment.Augment(tuple(augment.OPERATIONS), 0.1, NEAR, seed=3)
    again = augment.Augment(tuple(augment.OPERATIONS), 0.1, NEAR, seed=3)
    other = augment.Augment(tuple(augment.OPERATIONS), 0.1, NEAR, seed=4)
    places = [(epoch, i) for epoch in range(20) for i in range(20)]
    first = [change(text, *place) for place in places]
    assert first == [again(text, *place) for place in reversed(places)][::-1]
    assert first != [other(text, *place) for place in places]
    as_it_is = np.mean([new == text for new in first])  # 1 in 5, and swaps with itself
    assert 0.12 < as_it_is < 0.35
    assert change("", 0, 0) == ""


def load(**changes):
    return classification.load({**KEYS, "normalise": "joulin", "length": 40, **changes}, seed=0)


def test_few_texts_are_stratified_and_nested_and_differ_by_seed():
    keys = {**KEYS, "normalise": "joulin"}
    whole, few, fewer = load(), load(train_size=100), load(train_size=50)
    share = [np.bincount(part.train.source.labels) / len(part.train.source) for part in (whole, few)]
    assert len(few.train.source) == 100 and np.abs(share[0] - share[1]).max() < 0.01
    strings = [
        {part.encoder.tokenizer.decode(part.train.source.row(i)) for i in range(len(part.train.source))}
        for part in (few, fewer, classification.load({**keys, "length": 40, "train_size": 50}, seed=1))
    ]
    assert len(fewer.train.source) == 50 and strings[1] < strings[0] and len(strings[1] & strings[2]) < 25
    assert [len(e.source) for e in few.evals.values()] == [len(e.source) for e in whole.evals.values()]


def test_augmented_batches_know_their_words():
    plain, data = load(train_size=50), load(train_size=50, augment=tuple(augment.OPERATIONS))
    batch, unk = data.train.batch(0), data.encoder.tokenizer.special["unk"]
    assert batch["tokens"].shape == (16, 40)
    assert not (batch["tokens"] == unk).any(), "what neighbours bring in has tokens of its own"
    assert data.encoder.tokenizer.size > plain.encoder.tokenizer.size
    np.testing.assert_array_equal(data.train.batch(0)["label"], plain.train.batch(0)["label"])
    first = [np.sort(data.train.batch(step)["tokens"], None) for step in (0, 25)]  # 16 * 25 texts: another epoch
    assert not np.array_equal(*first)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"augment": ("swaps",)}, "data.augment: no operation 'swaps'; did you mean 'swap'"),
        ({"augment": "swap", "augment_share": 1.0}, "data.augment_share = 1.0: above 0 and below 1"),
        ({"augment_share": 0.2}, "nothing is augmented"),
        ({"augment": "delete", "buckets": 3}, "set data.buckets to 0"),
        ({"train_size": 3}, "data.train_size = 3: from 6 to"),
        ({"train_size": 0.5}, "data.train_size = 0.5: from 6 to"),
        ({"train_size": 10**6}, "data.train_size = 1000000: from 6 to"),
    ],
)
def test_augmentation_that_cannot_be(keys, told):
    with pytest.raises(UserError, match=told):
        load(**keys)

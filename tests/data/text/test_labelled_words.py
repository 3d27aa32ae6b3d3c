"""Words with labels as rows of pieces."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from research.data import tfds_records, tokenizers
from research.data.text import labelled_words
from research.data.text.labelled_words import NONE, Rows
from research.util.errors import UserError


@pytest.fixture(scope="module")
def rows():
    """Row of six tokens; `cat` and `sat` are pieces, all else bytes."""
    tokenizer = tokenizers.make("bpe", " cat sat" * 50, vocab_size=6 + 256 + 6)
    assert [tokenizer.decode(tokenizer.encode(f" {w}")[:1]) for w in ("cat", "sat")] == [" cat", " sat"]
    return Rows(tokenizer, 6)


def test_the_first_piece_has_the_label(rows):
    cls, sep = (rows.tokenizer.special[name] for name in ("cls", "sep"))
    cat, sat = (rows.tokenizer.encode(f" {word}")[0] for word in ("cat", "sat"))
    space, o, x = (rows.tokenizer.encode(c)[0] for c in " ox")
    assert rows.of_text([("cat", 3), ("sat", 1)]) == [([cls, cat, sat, sep], [NONE, 3, 1, NONE])]
    assert rows.of_text([("ox", 2), ("sat", 0)]) == [([cls, space, o, x, sat, sep], [NONE, 2, NONE, NONE, 0, NONE])]


def test_a_long_text_goes_on_and_a_long_word_is_cut(rows):
    words = [("cat", 0), ("ox", 1), ("sat", 2), ("cats" * 9, 3), ("cat", 4)]
    found = rows.of_text(words)
    assert [[label for label in labels if label != NONE] for _, labels in found] == [[0, 1], [2], [3], [4]]
    assert max(len(tokens) for tokens, _ in found) == 6
    arrays = rows.arrays([words, [], [("cat", 5)]]).arrays
    assert arrays["tokens"].shape == arrays["labels"].shape == (5, 6)
    assert arrays["length"].tolist() == [6, 3, 6, 3, 3]
    for row, length in zip(arrays["labels"], arrays["length"], strict=True):
        assert (row[length - 1 :] == NONE).all() and row[0] == NONE
    assert arrays["labels"][arrays["labels"] != NONE].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_word_of_no_piece_is_unknown():
    tokenizer = tokenizers.make("word", "a b", special=labelled_words.AROUND)
    assert Rows(tokenizer, 5).pieces("\u200b ") in ([tokenizer.special["unk"]], tokenizer.encode("\u200b").tolist())


def test_punctuation_is_what_stood_behind_the_words(monkeypatch):
    monkeypatch.setattr(labelled_words, "topics", {"b": "Last one.", "a": 'In "short", that (is): x *** y=1; no.'})
    corpus = labelled_words.punctuation({})
    (train,), (valid,) = corpus.parts["train"], corpus.parts["valid"]
    assert train == [("In", 0), ('"short', 1), ("that", 0), ("(is", 3), ("x", 0), ("y=1", 0), ("no", 2)]
    assert valid == [("Last", 0), ("one", 2)]


def test_pydoc_needs_nothing():
    data = labelled_words.load({"source": "punctuation", "tokenizer": "word", "vocab_size": 500, "length": 32})
    assert set(data.parts) == {"train", "valid"} and data.rows.tokenizer.size == 500
    labels = data.parts["train"].arrays["labels"]
    assert (labels != NONE).sum() > 40_000 and set(np.unique(labels)) == {NONE, 0, 1, 2, 3}


def test_leaves_of_a_tree():
    tree = "(3 (2 It) (4 (2 's) (4 (3 good) (2 (2 -LRB-) (2 8\xa01\\/2)))))"
    assert labelled_words.leaves(tree) == [("It", 2), ("'s", 2), ("good", 3), ("(", 2), ("8 1/2", 2)]


@pytest.mark.data
def test_words_of_the_treebank():
    corpus = labelled_words.sst_words({})
    assert [len(texts) for texts in corpus.parts.values()] == [8_544, 1_101, 2_210]
    trees = [row["tree"].decode("utf-8") for row in tfds_records.examples("sst_trees", "validation")]
    for tree, words in zip(trees, corpus.parts["valid"], strict=True):
        assert " ".join(word for word, _ in words) == labelled_words.treebank.phrases(tree)[-1][0]


def test_baselines_by_scikit_learn():
    train = [[("good", 2), ("bad", 0), ("good", 2), ("film", 1), ("film", 1), ("film", 2)]]
    valid = [[("good", 2), ("film", 2), ("bad", 0)], [("new", 1), ("film", 1)]]
    truth, own, always = [2, 2, 0, 1, 1], [2, 1, 0, 2, 1], [2] * 5  # 2 is the commonest
    found = labelled_words.baselines(train, valid, 3)
    for rule, called in {"each word's own": own, "most frequent class": always}.items():
        assert found["accuracy"][rule] == pytest.approx(accuracy_score(truth, called))
        assert found["macro_f1"][rule] == pytest.approx(f1_score(truth, called, average="macro", zero_division=0))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"source": "sst_word"}, "did you mean 'sst_words'?"),
        ({"tokenizer": "char", "vocab_size": None}, "data.tokenizer has no token 'cls'"),
        ({"length": 2}, "data.length = 2: at least 3"),
        ({"vocab_size": 9}, "data.vocab_size = 9"),
    ],
)
def test_mistakes(changes, words):
    with pytest.raises(UserError) as caught:
        labelled_words.load({"source": "punctuation", "tokenizer": "bpe", "vocab_size": 300, "length": 16} | changes)
    assert words in str(caught.value) and "\n" not in str(caught.value)

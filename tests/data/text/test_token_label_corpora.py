"""Corpora of labelled words."""

import pytest

from research.data import tfds_records
from research.data.text import token_label_corpora


def test_punctuation_is_what_stood_behind_the_words(monkeypatch):
    monkeypatch.setattr(token_label_corpora, "topics", {"b": "Last one.", "a": 'In "short", that (is): x *** y=1; no.'})
    corpus = token_label_corpora.punctuation({})
    (train,), (valid,) = corpus.parts["train"], corpus.parts["valid"]
    assert train == [("In", 0), ('"short', 1), ("that", 0), ("(is", 3), ("x", 0), ("y=1", 0), ("no", 2)]
    assert valid == [("Last", 0), ("one", 2)]


def test_leaves_of_a_tree():
    tree = "(3 (2 It) (4 (2 's) (4 (3 good) (2 (2 -LRB-) (2 8\xa01\\/2)))))"
    assert token_label_corpora.leaves(tree) == [("It", 2), ("'s", 2), ("good", 3), ("(", 2), ("8 1/2", 2)]


@pytest.mark.data
def test_words_of_the_treebank():
    corpus = token_label_corpora.sst_words({})
    assert [len(texts) for texts in corpus.parts.values()] == [8_544, 1_101, 2_210]
    trees = [row["tree"].decode("utf-8") for row in tfds_records.examples("sst_trees", "validation")]
    for tree, words in zip(trees, corpus.parts["valid"], strict=True):
        assert " ".join(word for word, _ in words) == token_label_corpora.treebank.phrases(tree)[-1][0]

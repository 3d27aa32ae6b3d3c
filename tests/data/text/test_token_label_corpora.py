"""Corpora of labelled words."""

import pytest

from research.data import tfds_records
from research.data.text import token_label_corpora
from research.util.errors import UserError


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


def test_files_in_columns(tmp_path):
    """O is the first class; sentences of train in another part are counted."""
    (tmp_path / "a.conll").write_text("b B-X\n\na O\nb B-X\n\nc O\n\na O\nb B-X\n")
    corpus = token_label_corpora.load({"source": "conll", "path": str(tmp_path / "a.conll"), "valid_fraction": 0.25})
    assert corpus.classes == ("O", "B-X") and corpus.spans == ("span", " ")
    assert corpus.parts == {"train": [[("b", 1)], [("a", 0), ("b", 1)], [("c", 0)]], "valid": [[("a", 0), ("b", 1)]]}
    assert corpus.report[1:] == ["warning  1 of 1 sentences of valid are sentences of train, too"]
    (tmp_path / "a.conll").write_text("a O\n\nb O\n\nc O\n")
    with pytest.raises(UserError, match="conll: one label alone, 'O'"):
        token_label_corpora.load({"source": "conll", "path": str(tmp_path / "a.conll"), "valid_fraction": 0.4})


@pytest.mark.parametrize(
    ("words", "joint", "unit"),
    [("我 在 北 京 5", "", "character"), ("我 在 北京", "", "word"), ("a b 京 我", " ", "word"), ("a b", " ", "word")],
)
def test_spans_of_chinese_are_read_without_spaces(tmp_path, words, joint, unit):
    (tmp_path / "a.conll").write_text("".join(f"{word} B-X\n" for word in words.split()) + "\nb O\n", encoding="utf-8")
    corpus = token_label_corpora.load({"source": "conll", "path": str(tmp_path / "a.conll"), "valid_fraction": 0.5})
    assert (corpus.spans.joint, corpus.unit) == (joint, unit)


@pytest.mark.data
def test_words_of_the_peoples_daily():
    segmentation = token_label_corpora.peoples_daily_segmentation({})
    text = segmentation.parts["train"][0]
    assert "".join(segmentation.classes[label] for _, label in text[:8]) == "BEBEBESS"  # four words
    assert token_label_corpora.UNITS[segmentation.unit]("\u8fc8 \u5411\n") == ["\u8fc8", "\u5411"]
    pos = token_label_corpora.peoples_daily_pos({})
    assert len(pos.classes) == 24 and [pos.classes[label] for _, label in pos.parts["train"][0][:4]] == list("vvnu")
    assert sum(map(len, pos.parts["test"])) == 104_053 and sum(map(len, segmentation.parts["test"])) == 170_658

"""Words with labels as rows of pieces."""

import numpy as np
import pytest

from research.data import tokenizers
from research.data.text import token_label_corpora, token_labels
from research.data.text.token_labels import NONE, Rows
from research.util.errors import UserError

KEYS = dict(source="punctuation", tokenizer="bpe", vocab_size=300, length=16, batch_size=8, eval_batch_size=8)


def load(**changes):
    return token_labels.load({**KEYS, **changes}, seed=0)


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


def test_labelled_characters_have_a_token_each(tmp_path):
    """Words of `char` begin with their space, which tells where they begin; characters of Chinese do not."""
    for name, words in {"zh": "我在北京我", "en": ["ab", "b", "ab"]}.items():
        lines = "".join(f"{word} {'B-X' if i else 'O'}\n" for i, word in enumerate(words))
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.txt").write_text(f"{lines}\n{lines}", encoding="utf-8")
        data = load(
            source="conll", path=str(tmp_path / name), valid_fraction=0.5, tokenizer="char", vocab_size=None, length=16
        )
        row = data.codec.encode("".join(words) if name == "zh" else " ".join(words))
        inside = data.rows.tokenizer.decode(row["tokens"][0, 1:-1])
        assert inside == {"zh": "我在北京我", "en": " ab b ab"}[name]
        assert row["starts"][0].tolist() == {"zh": [0, 1, 1, 1, 1, 1, 0], "en": [0, 1, 0, 0, 1, 0, 1, 0, 0, 0]}[name]


def test_a_word_of_no_piece_is_unknown():
    tokenizer = tokenizers.make("word", "a b", special=token_labels.AROUND)
    assert Rows(tokenizer, 5).pieces("\u200b ") in ([tokenizer.special["unk"]], tokenizer.encode("\u200b").tolist())


def test_pydoc_needs_nothing():
    data = load(tokenizer="word", vocab_size=500, length=32)
    (tokenizer,) = data.tokenizers
    assert list(data.evals) == ["valid"] and tokenizer.size == 500 and data.codec.constraints == ("t <= 32",)
    labels = data.train.source.arrays["labels"]
    assert (labels != NONE).sum() > 40_000 and set(np.unique(labels)) == {NONE, 0, 1, 2, 3}


def test_a_file_is_labelled_word_by_word(tmp_path):
    data = load(vocab_size=384, length=24)
    (tmp_path / "text.txt").write_text("the function returns\n an unheardof  value")
    inputs = data.codec.encode(data.codec.read(tmp_path / "text.txt"))
    assert {name: value.dtype for name, value in inputs.items()} == {
        name: dtype for name, (_, dtype) in data.codec.inputs.items()
    }
    p = np.full((1, *inputs["tokens"].shape[1:], 4), 0.1)
    starts = np.flatnonzero(inputs["starts"][0])
    p[0, starts, [0, 1, 2, 3, 0, 2][: len(starts)]] = 0.7
    labelled = data.codec.decode({"labels": p.argmax(-1), "probabilities": p, **inputs})["words"]
    assert [word for word, *_ in labelled] == ["the", "function", "returns", "an", "unheardof", "value"][: len(starts)]
    assert len(starts) > 3 and labelled[:4] == [
        ["the", "none", 0.7], ["function", "comma", 0.7], ["returns", "period", 0.7], ["an", "colon", 0.7],
    ]  # fmt: skip
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(UserError, match=r"the text is empty"):
        data.codec.encode(data.codec.read(tmp_path / "empty.txt"))


def test_baselines_are_of_the_validation_words(monkeypatch):
    """To validate are b with a comma and c with none, as in training: none is always right once, each word's own twice."""
    monkeypatch.setattr(token_label_corpora, "topics", {"a": "a b, c", "b": "b, c"})
    baselines = load(tokenizer="word", vocab_size=None).baselines()
    assert baselines == {
        "valid/accuracy": ({"most frequent class": 0.5, "each word's own": 1.0}, ""),
        "valid/macro_f1": ({"most frequent class": (2 / 3) / 4, "each word's own": 2 / 4}, ""),
    }


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"source": "sst_word"}, "did you mean 'sst_words'?"),
        (
            {"tokenizer": "byte", "vocab_size": None},
            "data.tokenizer = 'byte' has no <cls>, and its vocabulary is fixed",
        ),
        ({"length": 2}, "data.length = 2: at least 3"),
        ({"vocab_size": 9}, "data.vocab_size = 9"),
    ],
)
def test_mistakes(changes, words):
    with pytest.raises(UserError) as caught:
        load(**changes)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_long_text_is_cut_behind_a_pause():
    """Four words a row; the second row has no pause before it is full."""
    tokenizer = tokenizers.make("word", "a b c , d e", special=token_labels.AROUND)
    rows = Rows(tokenizer, 6, frozenset(","))
    assert rows.cuts("a , b c d e a b , c".split()) == [0, 2, 6, 10]
    assert rows.cuts("a , b c".split()) == [0, 4] and rows.cuts([]) == [0]
    assert Rows(tokenizer, 6).cuts("a , b c d e a b , c".split()) == [0, 4, 8, 10]


def test_a_pause_does_not_make_a_row_too_long(rows):
    """A word of five bytes is cut to a row of its own four pieces, whatever stands before it."""
    cuts = Rows(rows.tokenizer, 6, frozenset({"cat"})).cuts(["cat", "sat", "ox", "cat", "oxoxox"])
    assert cuts == [0, 1, 3, 4, 5]

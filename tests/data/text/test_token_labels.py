"""Words with labels as rows of pieces."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from research.data import tfds_records, tokenizers
from research.data.text import token_labels
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


def test_a_word_of_no_piece_is_unknown():
    tokenizer = tokenizers.make("word", "a b", special=token_labels.AROUND)
    assert Rows(tokenizer, 5).pieces("\u200b ") in ([tokenizer.special["unk"]], tokenizer.encode("\u200b").tolist())


def test_punctuation_is_what_stood_behind_the_words(monkeypatch):
    monkeypatch.setattr(token_labels, "topics", {"b": "Last one.", "a": 'In "short", that (is): x *** y=1; no.'})
    corpus = token_labels.punctuation({})
    (train,), (valid,) = corpus.parts["train"], corpus.parts["valid"]
    assert train == [("In", 0), ('"short', 1), ("that", 0), ("(is", 3), ("x", 0), ("y=1", 0), ("no", 2)]
    assert valid == [("Last", 0), ("one", 2)]


def test_pydoc_needs_nothing():
    data = load(tokenizer="word", vocab_size=500, length=32)
    (tokenizer,) = data.tokenizers
    assert list(data.evals) == ["valid"] and tokenizer.size == 500 and data.constraints == ("t <= 32",)
    labels = data.train.source.arrays["labels"]
    assert (labels != NONE).sum() > 40_000 and set(np.unique(labels)) == {NONE, 0, 1, 2, 3}


def test_a_file_is_labelled_word_by_word(tmp_path):
    data = load(vocab_size=384, length=24)
    (tmp_path / "text.txt").write_text("the function returns\n an unheardof  value")
    inputs = data.encode(data.read(tmp_path / "text.txt"))
    assert {name: value.dtype for name, value in inputs.items()} == {
        name: dtype for name, (_, dtype) in data.inputs.items()
    }
    p = np.full((1, *inputs["tokens"].shape[1:], 4), 0.1)
    starts = np.flatnonzero(inputs["starts"][0])
    p[0, starts, [0, 1, 2, 3, 0, 2][: len(starts)]] = 0.7
    labelled = data.decode({"probabilities": p, **inputs})["words"]
    assert [word for word, *_ in labelled] == ["the", "function", "returns", "an", "unheardof", "value"][: len(starts)]
    assert len(starts) > 3 and labelled[:4] == [
        ["the", "none", 0.7], ["function", "comma", 0.7], ["returns", "period", 0.7], ["an", "colon", 0.7],
    ]  # fmt: skip
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(UserError, match=r"the text is empty"):
        data.encode(data.read(tmp_path / "empty.txt"))


def test_leaves_of_a_tree():
    tree = "(3 (2 It) (4 (2 's) (4 (3 good) (2 (2 -LRB-) (2 8\xa01\\/2)))))"
    assert token_labels.leaves(tree) == [("It", 2), ("'s", 2), ("good", 3), ("(", 2), ("8 1/2", 2)]


@pytest.mark.data
def test_words_of_the_treebank():
    corpus = token_labels.sst_words({})
    assert [len(texts) for texts in corpus.parts.values()] == [8_544, 1_101, 2_210]
    trees = [row["tree"].decode("utf-8") for row in tfds_records.examples("sst_trees", "validation")]
    for tree, words in zip(trees, corpus.parts["valid"], strict=True):
        assert " ".join(word for word, _ in words) == token_labels.treebank.phrases(tree)[-1][0]


def test_baselines_by_scikit_learn():
    train = [[("good", 2), ("bad", 0), ("good", 2), ("film", 1), ("film", 1), ("film", 2)]]
    valid = [[("good", 2), ("film", 2), ("bad", 0)], [("new", 1), ("film", 1)]]
    truth, own, always = [2, 2, 0, 1, 1], [2, 1, 0, 2, 1], [2] * 5  # 2 is the commonest
    scores = token_labels.rule_scores(train, valid, 3)
    for rule, predicted in {"each word's own": own, "most frequent class": always}.items():
        assert scores["accuracy"][rule] == pytest.approx(accuracy_score(truth, predicted))
        assert scores["macro_f1"][rule] == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0))


def test_baselines_are_of_the_validation_words(monkeypatch):
    """To validate are b with a comma and c with none, as in training: none is always right once, each word's own twice."""
    monkeypatch.setattr(token_labels, "topics", {"a": "a b, c", "b": "b, c"})
    baselines = load(tokenizer="word", vocab_size=None).baselines()
    assert baselines == {
        "valid/accuracy": ({"most frequent class": 0.5, "each word's own": 1.0}, ""),
        "valid/macro_f1": ({"most frequent class": (2 / 3) / 4, "each word's own": 2 / 4}, ""),
    }


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
        load(**changes)
    assert words in str(caught.value) and "\n" not in str(caught.value)

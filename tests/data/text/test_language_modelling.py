"""Corpora, windows and baselines."""

import math

import numpy as np
import pytest

from research.core.config import track_reads
from research.data.text import language_modelling
from research.util.errors import UserError


def chars(path, **more):
    return language_modelling.load_text({"source": "files", "path": str(path), "tokenizer": "char", **more})


def part(data, name):
    return data.tokenizer.decode(getattr(data, name))


def test_pydoc_needs_nothing_and_is_split_ninety_to_ten():
    from pydoc_data.topics import topics

    data = language_modelling.load_text({"source": "pydoc", "tokenizer": "char"})
    whole = "\n\n".join(topics[name] for name in sorted(topics))
    assert part(data, "train") + part(data, "valid") == whole
    assert len(data.train) == int(len(whole) * 0.9) > 400_000
    assert data.train.dtype == data.valid.dtype == np.uint8
    assert 0 < len(data.report) < 24


@pytest.mark.data
def test_tiny_shakespeare_is_nanogpts(tmp_path, monkeypatch):
    """nanoGPT, data/shakespeare_char/readme.md and prepare.py: the counts and the 65 characters."""
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    data = language_modelling.load_text({"source": "tiny_shakespeare", "tokenizer": "char"})
    assert (len(data.train), len(data.valid), data.tokenizer.size) == (1_003_854, 111_540, 65)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert data.tokenizer.chars == "\n !$&',-.3:;?" + letters + letters.lower()
    assert part(data, "train").startswith("First Citizen:\nBefore we proceed")


def test_chinese_file(tmp_path):
    words = "道可道，非常道。名可名，非常名。無名天地之始。" * 4
    (tmp_path / "道.txt").write_text(words, encoding="utf-8")
    data = chars(tmp_path / "道.txt", valid_fraction=0.25)
    assert part(data, "train") + part(data, "valid") == words
    assert len(data.valid) == len(words) // 4
    assert data.tokenizer.chars == "".join(sorted(set(words)))


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        ({"source": "pydocs"}, "no text source 'pydocs'; did you mean 'pydoc'"),
        ({"source": "files"}, "data.path is not set"),
        ({"source": "files", "path": "absent"}, "data.path = absent does not exist"),
        ({"source": "files", "path": "here", "valid_fraction": 1.0}, "valid_fraction = 1.0"),
        ({"source": "files", "path": "here/bad.txt"}, "not UTF-8 (byte 0xff at 1)"),
        ({"source": "files", "path": "here/none"}, "no .txt .md .jsonl file"),
        ({"source": "files", "path": "here/one.txt"}, "0 characters to train"),
        ({"source": "pydoc", "tokenizer": "words"}, "no tokenizer 'words'; did you mean 'word'"),
        ({"source": "pydoc", "tokenizer": "char", "vocab_size": 300}, "data.vocab_size = 300 means nothing"),
        ({"source": "pydoc", "tokenizer": "bpe", "lowercase": True}, "data.lowercase = True means nothing"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, cfg, told):
    (tmp_path / "here" / "none").mkdir(parents=True)
    (tmp_path / "here" / "bad.txt").write_bytes(b"a\xff")
    (tmp_path / "here" / "one.txt").write_text("a")
    monkeypatch.chdir(tmp_path)
    defaults = {"tokenizer": "char", "path": None, "valid_fraction": None, "text_key": None}
    with pytest.raises(UserError) as caught:
        language_modelling.load_text(track_reads(defaults | cfg))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_training_windows_lie_end_to_end_from_a_pure_shift():
    n, length = 103, 10
    windows = language_modelling.Windows(np.arange(n, dtype=np.uint8), length, seed=3)
    starts = set()
    for epoch in range(100):
        batch = windows.gather(np.arange(len(windows)), epoch)
        shift = int(batch["tokens"][0, 0])
        expected = shift + np.arange(len(windows) * length)
        np.testing.assert_array_equal(batch["tokens"].ravel(), expected)
        np.testing.assert_array_equal(batch["targets"].ravel(), expected + 1)
        assert batch["tokens"].dtype == batch["targets"].dtype == np.int32
        starts.add(shift)
        again = language_modelling.Windows(windows.tokens, length, seed=3).gather(np.array([4, 1]), epoch)
        np.testing.assert_array_equal(again["tokens"], batch["tokens"][[4, 1]])
    assert len(windows) == 9  # (103 - 10) // 10: all fit at every shift
    assert starts == set(range(length))
    other = language_modelling.Windows(windows.tokens, length, seed=4)
    assert [other._shift(4, e) for e in range(9)] != [windows._shift(3, e) for e in range(9)]


@pytest.mark.parametrize("n", [*range(6, 25)])
def test_windows_of_short_texts(n):
    """Training windows stay inside the text; evaluation makes every later token a target once."""
    tokens, length = np.arange(n), 5
    windows = language_modelling.Windows(tokens, length, seed=0)
    for epoch in range(20):
        batch = windows.gather(np.arange(len(windows)), epoch)
        assert batch["targets"].max() < n
        assert len(np.unique(batch["targets"])) == batch["targets"].size
    windows = language_modelling.Windows(tokens, length)
    batch = windows.gather(np.arange(len(windows)), 0)
    seen = batch["token_mask"] == 1
    np.testing.assert_array_equal(batch["targets"][seen], tokens[1:])
    np.testing.assert_array_equal(batch["tokens"][seen], tokens[:-1])
    assert set(np.unique(batch["token_mask"])) <= {0, 1}
    assert batch["token_mask"].dtype == np.float32


def test_windows_longer_than_the_text_name_both_lengths():
    with pytest.raises(UserError, match=r"length = 10 needs a text of 11 tokens, this one has 10"):
        language_modelling.Windows(np.arange(10), 10, seed=0)
    assert len(language_modelling.Windows(np.arange(10), 10)) == 1  # evaluation fills up


def test_baselines_by_hand():
    """Train 0 0 1 0 1, valid 0 1 2 0, V = 3.

    Unigram: (3+1)/8, (2+1)/8, (0+1)/8. Pairs 00 once, 01 twice, 10 once: after 0 three tokens of
    two kinds, after 1 one of one kind, after 2 none.
    """
    got = language_modelling.baselines(np.array([0, 0, 1, 0, 1], np.uint8), np.array([0, 1, 2, 0], np.uint8), 3)
    p = [4 / 8, 3 / 8, 1 / 8]
    bigram = [(2 + 2 * p[1]) / (3 + 2), (0 + 1 * p[2]) / (1 + 1), p[0]]  # 0->1, 1->2, 2->0
    assert got["unigram"] == pytest.approx(-sum(map(math.log, (p[1], p[2], p[0]))) / 3)
    assert got["bigram"] == pytest.approx(-sum(map(math.log, bigram)) / 3)


def test_baselines_are_distributions_and_find_the_entropy_of_a_chain():
    rng, size = np.random.default_rng(0), 4
    train = rng.integers(size, size=50)
    for first in range(size):
        total = [language_modelling.baselines(train, np.array([first, b]), size) for b in range(size)]
        for name in ("unigram", "bigram"):
            assert sum(math.exp(-row[name]) for row in total) == pytest.approx(1)
    # The next token is the same with probability 0.9, else one of three others.
    moves = np.where(rng.random(200_000) < 0.9, 0, rng.integers(1, size, size=200_000))
    chain = np.cumsum(moves) % size
    entropy = -0.9 * math.log(0.9) - 0.1 * math.log(0.1 / 3)
    got = language_modelling.baselines(chain[:150_000], chain[150_000:], size)
    assert got["bigram"] == pytest.approx(entropy, abs=0.01)
    assert got["unigram"] == pytest.approx(math.log(size), abs=0.01)


def test_baselines_of_a_large_vocabulary_stay_small():
    tokens = np.random.default_rng(0).integers(2**17, size=20_000).astype(np.uint32)
    got = language_modelling.baselines(tokens[:15_000], tokens[15_000:], 2**17)  # V * V would be 137 GB
    assert got["unigram"] == pytest.approx(math.log(2**17), abs=0.2)


def test_the_token_after_a_window_is_its_only_target(tmp_path):
    """Keras' text generation example: windows of maxlen every step tokens, next_chars[i] = text[i * step + maxlen]."""
    text = "".join(chr(97 + i % 26) for i in range(200))
    (tmp_path / "letters.txt").write_text(text)
    cfg = {"source": "files", "path": str(tmp_path), "tokenizer": "char", "valid_fraction": 0.5, "packing": None}
    keys = {"carry": None, "length": 10, "stride": 3, "batch_size": 4, "eval_batch_size": 7}
    data = language_modelling.load(cfg | keys, seed=0)
    starts = range(0, 100 - 10, 3)  # of the 100 characters to train on
    assert len(data.train.source) == len(starts)
    batches = [data.evals["valid"].batch(i) for i in range(len(data.evals["valid"]))]
    assert sum(int(batch["mask"].sum()) for batch in batches) == len(starts)
    decode = data.tokenizer.decode
    assert decode(batches[0]["tokens"][1]) == text[103:113] and decode(batches[0]["targets"][1]) == text[113]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"stride": 0}, "data.stride = 0: a whole number of at least 1"),
        ({"stride": 1.5}, "data.stride = 1.5: a whole number"),
        ({"stride": 2, "carry": True}, "data.stride = 2: windows of data.carry do not overlap"),
        ({"stride": 2, "length": 10**6}, "needs a text of 1,000,001 tokens"),
    ],
)
def test_a_stride_that_cannot_be(keys, told):
    cfg = {"source": "pydoc", "tokenizer": "char", "packing": None, "carry": None, "length": 8}
    with pytest.raises(UserError, match=told):
        language_modelling.load(cfg | {"batch_size": 4, "eval_batch_size": 4} | keys, seed=0)

"""Words of jieba, beside the library itself; no cache file, one line if it is missing."""

import importlib.metadata
import tempfile

import numpy as np
import pytest

from research.data import tokenizers
from research.data.text import classification
from research.data.tokenizers import chinese
from research.util.errors import UserError

jieba = pytest.importorskip("jieba")
TEXTS = "我来到北京清华大学\n他来到了网易杭研大厦\n我 来到 Paris 5 次。"


def test_the_words_are_those_of_jiebas_readme():
    """The second sentence has a word, 杭研, that is not in the dictionary."""
    split = chinese.Jieba.split
    assert split("我来到北京清华大学") == ["我", "来到", "北京", "清华大学"]
    assert split("他来到了网易杭研大厦") == ["他", "来到", "了", "网易", "杭研", "大厦"]
    assert split(" 我 \n Paris ") == ["我", "Paris"] and split("") == []


def test_ids_and_back():
    tokenizer = tokenizers.make("jieba", TEXTS, vocab_size=6)
    assert tokenizer.words == ("<pad>", "<unk>", "来到", "我", "5", "Paris")  # by frequency, then by code points
    ids = tokenizer.encode("我来到上海")
    assert ids.tolist() == [3, 2, 1] and ids.dtype == np.int32
    assert tokenizer.decode(ids) == "我来到<unk>" and tokenizer.special == {"pad": 0, "unk": 1}
    assert tokenizers.make("jieba", TEXTS, min_count=2).words == ("<pad>", "<unk>", "来到", "我")
    again = tokenizers.from_json(tokenizer.to_json())
    assert again == tokenizer and isinstance(again, chinese.Jieba)


def test_an_unknown_word_is_shown_as_itself():
    encoder = classification.Encoder(tokenizers.make("jieba", TEXTS), "none", 3, "head")
    ids, words = encoder.words("我来到上海清华大学")
    assert words == ["我", "来到", "上海"] and ids[2] == 1


def test_no_cache_file_is_read_or_written(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "jieba.cache").write_bytes(b"of another user")
    chinese._segmenter.cache_clear()
    ours = chinese._segmenter()
    assert ours.lcut("他来到了网易杭研大厦")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"of another user"]
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "theirs"))
    (tmp_path / "theirs").mkdir()
    theirs = jieba.Tokenizer()
    theirs.initialize()
    assert (ours.FREQ, ours.total) == (theirs.FREQ, theirs.total)


def test_without_the_library(monkeypatch):
    stored = tokenizers.make("jieba", TEXTS).to_json()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.1")
    with pytest.raises(UserError, match=r"trained with jieba 0.42.1, 0.1 is installed: pip install jieba==0.42.1"):
        tokenizers.from_json(stored)

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    chinese._segmenter.cache_clear()
    chinese._cut.cache_clear()
    with pytest.raises(UserError, match=r"jieba, which is not installed: pip install 'almanac\[chinese\]'"):
        tokenizers.make("jieba", TEXTS)
    with pytest.raises(UserError, match="not installed"):
        tokenizers.from_json(stored)

"""Our tokenizers as transformers' files: the same ids, there and when they are read again."""

import json

import pytest

from research.data import tokenizers
from research.interop.hf import tokenizer

TEXT = "the quick brown fox jumps over the lazy dog\n Größe 中文 <pad> <<pad>> naïve\n\n x  y" * 3
MADE = {
    "bpe": {"vocab_size": 300},
    "unigram": {"vocab_size": 300},
    "gpt2": {},
    "wordpiece": {},
}
REAL = [pytest.param(name, marks=pytest.mark.data) if not MADE[name] else name for name in MADE]


@pytest.mark.parametrize("name", REAL)
def test_read_again_it_says_the_same(name, tmp_path):
    ours = tokenizers.make(name, TEXT, **MADE[name])
    assert tokenizer.can_write(ours)
    tokenizer.write(tmp_path, ours, 64)
    again = tokenizers.make(str(tmp_path / "tokenizer.json"), "")
    assert again.size == ours.size and again.special == ours.special
    ids = ours.encode(TEXT)
    assert again.encode(TEXT).tolist() == ids.tolist() and again.decode(ids) == ours.decode(ids)
    before = (tmp_path / "tokenizer.json").read_text()
    tokenizer.write(tmp_path, again, 64)
    assert (tmp_path / "tokenizer.json").read_text() == before


def test_the_second_file_names_special_tokens(tmp_path):
    tokenizer.write(tmp_path, tokenizers.make("bpe", TEXT, vocab_size=300), 64)
    about = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert about["pad_token"] == "<pad>" and about["eos_token"] == "<eos>" and about["model_max_length"] == 64


def test_ids_of_special_tokens():
    nothing = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    assert tokenizer.ids(None) == tokenizer.ids(tokenizers.make("byte", "")) == nothing
    learnt = tokenizers.make("bpe", TEXT, vocab_size=300)
    assert tokenizer.ids(learnt) == {"bos_token_id": 4, "eos_token_id": 5, "pad_token_id": 0}
    assert not tokenizer.can_write(None) and not tokenizer.can_write(tokenizers.make("char", TEXT))


@pytest.mark.parity
@pytest.mark.parametrize("name", REAL)
def test_equals_transformers(name, tmp_path):
    hf = pytest.importorskip("transformers")
    ours = tokenizers.make(name, TEXT, **MADE[name])
    tokenizer.write(tmp_path, ours, 64)
    theirs = hf.AutoTokenizer.from_pretrained(tmp_path)
    text = TEXT.replace("<pad>", "")  # which they take for the token
    assert theirs.encode(text, add_special_tokens=False) == ours.encode(text).tolist()
    assert len(theirs) == ours.size and theirs.model_max_length == 64
    for short, i in ours.special.items():
        assert getattr(theirs, f"{short}_token_id") == i
    if name == "wordpiece":  # BERT's own ends
        assert theirs(text).input_ids == [101, *ours.encode(text).tolist(), 102]

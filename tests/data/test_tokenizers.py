"""Tokenizers: exact round trips, errors that name the character, parity with Transformers."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from research.data import tokenizers
from research.host.errors import UserError

TEXTS = [
    "Hello  world\n\n\tdon't I'll you're",
    "  two spaces, trailing  \n",
    "汉字混排 English 한국어 العربية naïve café e\u0301",
    "👩‍👩‍👧‍👦 \u200d\ufeff\u00a0 \r\n x\x85y\x1c\nz",
    "12345 3.14 <|endoftext|> a\n\nb\nc",
    "",
]


@pytest.fixture(scope="module")
def gpt2():
    return tokenizers.make("gpt2", "")


def test_char_is_sorted_code_points():
    char = tokenizers.make("char", "hello, 世界")
    assert char.chars == " ,ehlo世界"
    assert char.encode("世lo").tolist() == [6, 4, 5]
    assert char.decode(np.array([6, 4, 5])) == "世lo"
    assert char.encode("").shape == (0,)
    assert char.encode("he").dtype == np.int32


@pytest.mark.parametrize("bad", ["€", "\x00", "\U0001f600"])  # within, below and above the known
def test_char_names_what_it_does_not_know(bad):
    with pytest.raises(UserError, match=rf"U\+{ord(bad):04X}\) at position 2"):
        tokenizers.make("char", "hello, 世界").encode(f"he{bad}")


def test_byte_replaces_what_is_not_utf8():
    byte = tokenizers.make("byte", "")
    assert byte.encode("é").tolist() == [0xC3, 0xA9]
    assert byte.decode(np.array([0x61, 0xC3])) == "a\ufffd"
    assert byte.size == 256


@given(st.text())
def test_byte_and_char_round_trip(text):
    for name in ("byte", "char"):
        tokenizer = tokenizers.make(name, text)
        again = tokenizers.from_json(tokenizer.to_json())
        assert again == tokenizer
        assert again.decode(tokenizer.encode(text)) == text


def test_half_a_surrogate_pair_is_an_error():
    with pytest.raises(UserError, match="position 1"):
        tokenizers.make("byte", "").encode("a\ud800")


def test_unknown_name():
    with pytest.raises(UserError, match="did you mean 'byte'"):
        tokenizers.make("bytes", "")


@pytest.mark.data
def test_gpt2_round_trip(gpt2):
    @settings(max_examples=200, deadline=None)
    @given(st.text())
    @example("<|endoftext|>")
    def round_trip(text):
        assert gpt2.decode(gpt2.encode(text)) == text

    round_trip()


@pytest.mark.data
def test_gpt2_known_ids(gpt2):
    # "Hello world" as in OpenAI's gpt-2 and tiktoken; 50256 ends a text.
    assert gpt2.encode("Hello world").tolist() == [15496, 995]
    assert gpt2.size == 50257
    assert gpt2.decode(np.array([50256])) == "<|endoftext|>"
    assert 50256 not in gpt2.encode("<|endoftext|>")


@pytest.mark.data
def test_gpt2_comes_back_without_its_files(gpt2, tmp_path, monkeypatch):
    text = gpt2.to_json()
    monkeypatch.setenv("ALMANAC_MIRROR", str(tmp_path))
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    again = tokenizers.from_json(text)
    assert json.loads(text)["name"] == "gpt2"
    for text in TEXTS:
        np.testing.assert_array_equal(again.encode(text), gpt2.encode(text))


@pytest.mark.data
def test_gpt2_in_pieces_is_gpt2_at_once(gpt2, monkeypatch):
    text = "".join(f"{text}\nline {i}\n\n  indented\n" for i, text in enumerate(TEXTS * 3))
    at_once = gpt2.encode(text)
    pieces = list(tokenizers._pieces(text, 5))
    assert len(pieces) > 20
    assert "".join(pieces) == text
    np.testing.assert_array_equal(np.concatenate([gpt2.encode(p) for p in pieces]), at_once)


@pytest.mark.data
@pytest.mark.parity
def test_gpt2_equals_transformers(gpt2):
    transformers = pytest.importorskip("transformers")
    paths = tokenizers.mirror.fetch("gpt2_bpe", tokenizers.GPT2_FILES)
    lines = paths["vocab.bpe"].read_text(encoding="utf-8").split("\n")[1:-1]
    theirs = transformers.GPT2Tokenizer(
        vocab=json.loads(paths["encoder.json"].read_text(encoding="utf-8")),
        merges=[tuple(line.split()) for line in lines],
    )
    for text in TEXTS:
        text = text.replace("<|endoftext|>", "")  # to them one token, to us its characters
        assert gpt2.encode(text).tolist() == theirs(text)["input_ids"]


@pytest.mark.data
def test_gpt2_counts_of_nanogpt(gpt2):
    """nanoGPT's README on Tiny Shakespeare: 301,966 training and 36,059 validation tokens."""
    files = tokenizers.mirror.fetch("tiny_shakespeare", _shakespeare())
    text = files["input.txt"].read_text(encoding="utf-8")
    cut = int(len(text) * 0.9)
    assert [len(gpt2.encode(part)) for part in (text[:cut], text[cut:])] == [301_966, 36_059]


def _shakespeare():
    from research.data.builders.tiny_shakespeare import TinyShakespeare

    return TinyShakespeare.FILES

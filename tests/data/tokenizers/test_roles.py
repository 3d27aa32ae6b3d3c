"""Markers of who speaks: after the base's ids, and never from text that someone typed."""

import numpy as np
import pytest

from research.data import tokenizers
from research.data.tokenizers import token_bytes
from research.data.tokenizers.roles import MARKERS, Roles
from research.util.errors import UserError
from research.util.files import write_json

BYTE = Roles(tokenizers.make("byte", ""))


def test_markers_come_after_the_base():
    assert BYTE.size == 260 and BYTE.added == {
        "<|system|>": 256,
        "<|user|>": 257,
        "<|assistant|>": 258,
        "<|end|>": 259,
    }
    assert BYTE.encode_with_added("<|user|>Hi<|end|>").tolist() == [257, 72, 105, 259]
    assert BYTE.encode_with_added("").shape == (0,)
    assert BYTE.decode(np.array([257, 72, 105, 259, 259])) == "<|user|>Hi<|end|><|end|>"
    with pytest.raises(UserError, match="token 260 at position 1"):
        BYTE.decode(np.array([0, 260]))


@pytest.mark.parametrize("marker", MARKERS)
def test_typed_markers_are_characters(marker):
    assert BYTE.encode(marker).max() < 256 and bytes(BYTE.encode(marker).tolist()).decode() == marker


@pytest.mark.parametrize("options", [{"name": "char"}, {"name": "bpe", "vocab_size": 300}, {"name": "byte"}])
def test_it_is_restored(options):
    roles = Roles(tokenizers.make(train="Hello <|end|> there, hello.", **options))
    again = tokenizers.from_json(roles.to_json())
    text = "<|user|>hello<|end|>"
    np.testing.assert_array_equal(again.encode_with_added(text), roles.encode_with_added(text))
    assert again.to_json() == roles.to_json() and again.decode(roles.encode_with_added(text)) == text


def test_a_run_lends_its_tokenizer(tmp_path):
    file = tmp_path / "vocabulary.json"
    file.write_text(f"[{BYTE.to_json()}]")
    assert tokenizers.make(str(file), "").to_json() == BYTE.to_json()
    with pytest.raises(UserError, match="data.vocab_size = 5 means nothing"):
        tokenizers.make(str(file), "", vocab_size=5)
    for wrong in ([], {}, [1], [{"name": "nothing"}], [{"name": "char"}], 7):
        write_json(file, wrong)
        with pytest.raises(UserError, match="want the vocabulary.json of a run"):
            tokenizers.make(str(file), "")


def test_it_is_no_name_of_its_own():
    with pytest.raises(UserError, match="name the tokenizer of the text"):
        tokenizers.make("roles", "a")


def test_a_pattern_never_asks_for_a_marker():
    assert token_bytes.of(BYTE) == [*(bytes([b]) for b in range(256)), *[b""] * 4]

"""A text's bytes are its tokens' pieces, end to end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.data import tokenizers
from research.data.tokenizers import token_bytes
from research.util.errors import UserError


@given(st.text(min_size=1))
def test_pieces_make_the_text(text):
    for name in ("byte", "char"):
        tokenizer = tokenizers.make(name, text)
        found = token_bytes.of(tokenizer)
        assert len(found) == tokenizer.size
        assert b"".join(found[i] for i in tokenizer.encode(text)) == text.encode()


@pytest.mark.parametrize("name", ["bpe", "unigram"])
def test_learnt_pieces(name):
    text = "Hello  world\n\tnaïve 汉字 👩‍👧 3.14\x00 and the rest of the words of the text\n"
    tokenizer = tokenizers.make(name, text * 20, vocab_size=300)
    found = token_bytes.of(tokenizer)
    assert [i for i in range(tokenizer.size) if not found[i]] == sorted(tokenizer.special.values())
    for said in (text, "never séen: <eos> ß"):
        assert b"".join(found[i] for i in tokenizer.encode(said)) == said.encode()
    for i in range(len(tokenizer.special), tokenizer.size):
        assert found[i].decode("utf-8", "replace") == tokenizer.decode(np.array([i]))


@pytest.mark.data
def test_pieces_of_gpt2():
    gpt2 = tokenizers.make("gpt2", "")
    found = token_bytes.of(gpt2)
    text = "Hello  world\n\tnaïve 汉字 👩‍👧 <|endoftext|> 3.14\x00"
    assert b"".join(found[i] for i in gpt2.encode(text)) == text.encode()
    assert [i for i in range(gpt2.size) if not found[i]] == [50256]  # it ends a text
    plain = [i for i in range(gpt2.size) if "\ufffd" not in gpt2.decode(np.array([i])) and i != 50256]
    assert len(plain) > 49_000
    assert all(found[i].decode() == gpt2.decode(np.array([i])) for i in plain)


def test_tokens_that_are_joined_by_spaces_are_refused():
    with pytest.raises(UserError, match="tokenizer 'word' puts spaces"):
        token_bytes.of(tokenizers.make("word", "a b a"))

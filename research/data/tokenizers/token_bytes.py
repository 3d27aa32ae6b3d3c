"""The bytes that each token of a tokenizer adds to a text, for constrained generation."""

import json

import numpy as np

from research.data.tokenizers import Tokenizer
from research.data.tokenizers.roles import Roles
from research.util.errors import UserError

# GPT-2's alphabet (Radford et al. 2019): printable characters represent their bytes, U+0100.. the other bytes in order.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTES = {chr(b): b for b in _PRINTABLE} | {
    chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in _PRINTABLE)
}


def of(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of each of V tokens, b"" for special ones. Raises UserError if texts are not concatenations of their tokens."""
    if isinstance(tokenizer, Roles):
        return [*of(tokenizer.base), *[b""] * len(tokenizer.added)]
    values = json.loads(tokenizer.to_json())
    name = values["name"]
    if name == "byte":
        words = [bytes([b]) for b in range(256)]
    elif name == "char":
        points = np.frombuffer(values["chars"].encode("utf-32-le", "surrogatepass"), np.uint32)
        words = [chr(p).encode("utf-8", "replace") for p in points]
    elif name == "gpt2":
        words = _bytes(_in_order(values["model"]["model"]["vocab"]))
    elif name == "bpe":
        words = _bytes(_in_order(values["model"]["vocab"]))
    elif name == "unigram":
        words = _bytes([word for word, _ in values["model"]])
    else:
        raise UserError(f"tokenizer {name!r} puts spaces between its tokens: a pattern of text cannot bind it")
    words = [b""] * (tokenizer.size - len(words)) + words  # trained tokenizers have the special tokens first
    for i in tokenizer.special.values():
        words[i] = b""
    return words


def _in_order(vocab: dict[str, int]) -> list[str]:
    return sorted(vocab, key=vocab.__getitem__)


def _bytes(words: list[str]) -> list[bytes]:
    return [bytes(_BYTES[c] for c in word) for word in words]

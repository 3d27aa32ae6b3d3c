"""The bytes that each token of a tokenizer adds to a text: what constrained generation needs to know of it."""

import json

import numpy as np

from research.data.tokenizers import Tokenizer
from research.util.errors import UserError

# GPT-2's alphabet (Radford et al. 2019): a printable character stands for its byte, the rest for the others in turn.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTES = {chr(b): b for b in _PRINTABLE} | {
    chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in _PRINTABLE)
}


def of(tokenizer: Tokenizer) -> list[bytes]:
    """Token i adds `pieces[i]`, nothing if it is a special one. UserError where a text is not its tokens end to end."""
    kept = json.loads(tokenizer.to_json())
    name = kept["name"]
    if name == "byte":
        words = [bytes([b]) for b in range(256)]
    elif name == "char":
        points = np.frombuffer(kept["chars"].encode("utf-32-le", "surrogatepass"), np.uint32)
        words = [chr(p).encode("utf-8", "replace") for p in points]
    elif name == "gpt2":
        words = _bytes(_in_order(kept["model"]["model"]["vocab"]))
    elif name == "bpe":
        words = _bytes(_in_order(kept["model"]["vocab"]))
    elif name == "unigram":
        words = _bytes([word for word, _ in kept["model"]])
    else:
        raise UserError(f"tokenizer {name!r} puts spaces between its tokens: a pattern of text cannot bind it")
    words = [b""] * (tokenizer.size - len(words)) + words  # learnt pieces come behind the special tokens
    for i in tokenizer.special.values():
        words[i] = b""
    return words


def _in_order(vocab: dict[str, int]) -> list[str]:
    return sorted(vocab, key=vocab.__getitem__)


def _bytes(words: list[str]) -> list[bytes]:
    return [bytes(_BYTES[c] for c in word) for word in words]

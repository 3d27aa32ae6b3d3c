"""The bytes that each token of a tokenizer adds to a text: what constrained generation needs to know of it."""

import json
from typing import Any

import numpy as np

from research.host.errors import UserError

# GPT-2's alphabet (Radford et al. 2019): a printable character stands for its byte, the rest for the others in turn.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTES = {chr(b): b for b in _PRINTABLE} | {
    chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in _PRINTABLE)
}


def of(tokenizer: Any) -> list[bytes]:
    """Token i adds `pieces[i]`, nothing if it is a special one. UserError where a text is not its tokens end to end."""
    kept = json.loads(tokenizer.to_json())
    readers = {"char": _char, "byte": _byte, "gpt2": _gpt2, "bpe": _learnt, "unigram": _learnt}
    if kept["name"] not in readers:
        raise UserError(f"tokenizer {kept['name']!r} puts spaces between its tokens: a pattern of text cannot bind it")
    words = readers[kept["name"]](kept)
    return [b""] * (tokenizer.size - len(words)) + words  # learnt pieces come behind the special tokens


def _char(kept: dict) -> list[bytes]:
    points = np.frombuffer(kept["chars"].encode("utf-32-le", "surrogatepass"), np.uint32)
    return [chr(p).encode("utf-8", "replace") for p in points]


def _byte(kept: dict) -> list[bytes]:
    return [bytes([b]) for b in range(256)]


def _gpt2(kept: dict) -> list[bytes]:
    words = _byte_level(kept["model"]["model"]["vocab"])
    words[-1] = b""  # <|endoftext|>
    return words


def _learnt(kept: dict) -> list[bytes]:
    return _byte_level(kept["model"])


def _byte_level(model: Any) -> list[bytes]:
    """A vocabulary {word: id}, one under "vocab", or [[word, score], ...] in the order of the ids."""
    vocab = model.get("vocab", model) if isinstance(model, dict) else [word for word, _ in model]
    return [
        bytes(_BYTES[c] for c in word) for word in (sorted(vocab, key=vocab.get) if isinstance(vocab, dict) else vocab)
    ]

"""The tokenizers' protocol, their registry and helpers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from research.util.errors import UserError

SPECIAL = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")


class Tokenizer(Protocol):
    """`size` is the vocabulary's, V; `special` has the ids of the special tokens, {a name of `SPECIAL`: id}.

    A tokenizer that came from a file may have `prefix` and `added` too: see `opened` and `encode_with_added`.
    """

    special: Mapping[str, int]

    @property
    def size(self) -> int: ...

    def encode(self, text: str) -> np.ndarray:
        """i32[T], without special tokens around it. Raises UserError if the vocabulary cannot represent the text."""

    def decode(self, ids: np.ndarray) -> str:
        """Token ids i[T] -> text. Raises UserError for an id outside 0..V-1."""

    def to_json(self) -> str: ...


# name -> class with `make(train, valid, **options)`, `restore(**values)` and the names of its `options`
TOKENIZERS: dict[str, Any] = {}


def register(cls: Any) -> Any:
    """A class decorator: adds a tokenizer to `TOKENIZERS`."""
    TOKENIZERS[cls.name] = cls
    return cls


def known(ids: np.ndarray, size: int) -> np.ndarray:
    """`ids` as i64. Raises UserError that names the first id outside 0..size-1."""
    ids = np.asarray(ids, np.int64)
    if (bad := np.flatnonzero((ids < 0) | (ids >= size))).size:
        at = int(bad[0])
        raise UserError(f"token {ids.flat[at]} at position {at} is not among the {size:,} of this vocabulary")
    return ids


def special_ids(tokenizer: Tokenizer, names: Sequence[str], asked: str = "") -> list[int]:
    """The ids of the special tokens `names`. Raises UserError for the first that the tokenizer lacks.

    `asked` is the value of data.tokenizer, if it is not the tokenizer's name.
    """
    for name in names:
        if name not in tokenizer.special:
            raise UserError(
                f"data.tokenizer = {asked or getattr(tokenizer, 'name', '')!r} has no <{name}>, and its vocabulary is fixed: "
                "choose 'char', 'word' or 'jieba', which learn one with it, or 'bpe' or 'unigram', which have all but <unk>"
            )
    return [tokenizer.special[name] for name in names]


def points(text: str) -> np.ndarray:
    """Code points: u32[len(text)].

    >>> points("aé").tolist()
    [97, 233]
    """
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def utf8(text: str) -> bytes:
    """The text as UTF-8. Raises UserError if it has a lone surrogate."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        at = error.start
        raise UserError(f"half a surrogate pair, {text[at]!r}, at position {at}") from None


def opened(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """A text that is to be continued -> i32[T]: its tokens, after those that the tokenizer puts before a text (`prefix`)."""
    return np.concatenate([np.asarray(getattr(tokenizer, "prefix", ()), np.int32), tokenizer.encode(text)])


def encode_with_added(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """A text -> i32[T], where the string of an added token (`added`) is that token, as `encode` does not take it."""
    return tokenizer.encode_with_added(text) if getattr(tokenizer, "added", None) else tokenizer.encode(text)  # type: ignore[attr-defined]


# No pre-tokenizer in use (GPT-2's, BERT's) has a word that spans a single newline between two lines.
_CUT = re.compile(r"\S\n(?=\S)")


def pieces(text: str, size: int = 1 << 20) -> Iterator[str]:
    """Parts of a text that can be encoded separately, which bounds memory: the library needs a hundred bytes per token."""
    start = 0
    while start < len(text):
        cut = _CUT.search(text, start + size)
        end = cut.end() if cut else len(text)
        yield text[start:end]
        start = end


def encode(model: Any, text: str) -> np.ndarray:
    """Token ids i32[T] by a model of the `tokenizers` library, part by part."""
    utf8(text)
    parts = [model.encode(piece, add_special_tokens=False).ids for piece in pieces(text)]
    return np.concatenate([np.asarray(ids, np.int32) for ids in parts or [[]]])

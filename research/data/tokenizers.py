"""Text <-> integers: characters, bytes, GPT-2's byte-level BPE.

A tokenizer is kept with a run as JSON text (`to_json`, `from_json`) and needs no file to come back.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

import numpy as np
import tokenizers as hf

from research.data import mirror
from research.host.errors import UserError, nearest

GPT2_FILES = (
    mirror.File(
        "encoder.json",
        "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/encoder.json",
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        1042301,
    ),
    mirror.File(
        "vocab.bpe",
        "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe",
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        456318,
    ),
)


class Tokenizer(Protocol):
    """`size` is the number of different tokens, V."""

    @property
    def size(self) -> int: ...

    def encode(self, text: str) -> np.ndarray:
        """i32[T]; UserError if the text cannot be said in this vocabulary."""

    def decode(self, ids: np.ndarray) -> str: ...

    def to_json(self) -> str: ...


TOKENIZERS: dict[str, Any] = {}  # name -> class with `make(text)`, `restore(**values)`


def _register(cls: Any) -> Any:
    TOKENIZERS[cls.name] = cls
    return cls


def make(name: str, text: str) -> Tokenizer:
    """The tokenizer called `name`; the vocabulary of `char` is the characters of `text`."""
    if name not in TOKENIZERS:
        raise UserError(f"no tokenizer {name!r}{nearest(name, TOKENIZERS)}")
    return TOKENIZERS[name].make(text)


def from_json(text: str) -> Tokenizer:
    """The tokenizer whose `to_json` wrote `text`."""
    values = json.loads(text)
    return TOKENIZERS[values.pop("name")].restore(**values)


@_register
@dataclasses.dataclass(frozen=True)
class Char:
    """One token a character (Unicode code point). `chars` is sorted, as in nanoGPT."""

    chars: str
    name: ClassVar[str] = "char"

    @classmethod
    def make(cls, text: str) -> "Char":
        return cls("".join(map(chr, np.unique(_points(text)))))

    @classmethod
    def restore(cls, chars: str) -> "Char":
        return cls(chars)

    @property
    def size(self) -> int:
        return len(self.chars)

    def encode(self, text: str) -> np.ndarray:
        points, known = _points(text), self._known
        ids = np.minimum(np.searchsorted(known, points), self.size - 1)
        if (bad := np.flatnonzero(known[ids] != points)).size:
            at = int(bad[0])
            raise UserError(
                f"character {text[at]!r} (U+{points[at]:04X}) at position {at} is not among the "
                f"{self.size} of this vocabulary; leave it out, or train with tokenizer 'byte'"
            )
        return ids.astype(np.int32)

    def decode(self, ids: np.ndarray) -> str:
        return "".join(map(chr, self._known[np.asarray(ids, np.int64)]))

    def to_json(self) -> str:
        return json.dumps({"name": self.name, "chars": self.chars})

    @functools.cached_property
    def _known(self) -> np.ndarray:
        return _points(self.chars)


@_register
@dataclasses.dataclass(frozen=True)
class Byte:
    """UTF-8 bytes. Decoding puts U+FFFD for what is not UTF-8."""

    size: ClassVar[int] = 256
    name: ClassVar[str] = "byte"

    @classmethod
    def make(cls, text: str) -> "Byte":
        return cls()

    @classmethod
    def restore(cls) -> "Byte":
        return cls()

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(_utf8(text), np.uint8).astype(np.int32)

    def decode(self, ids: np.ndarray) -> str:
        return bytes(np.asarray(ids, np.uint8)).decode("utf-8", errors="replace")

    def to_json(self) -> str:
        return json.dumps({"name": self.name})


@_register
class GPT2:
    """GPT-2's byte-level BPE (Radford et al. 2019): 50,257 tokens, of which 50,256 ends a text.

    Text is text: a literal `<|endoftext|>` is encoded as its characters, never as token 50,256.
    """

    name: ClassVar[str] = "gpt2"

    def __init__(self, model: hf.Tokenizer):
        self._model = model
        self.size: int = model.get_vocab_size()

    @classmethod
    def make(cls, text: str = "") -> "GPT2":
        paths = mirror.fetch("gpt2_bpe", GPT2_FILES)
        lines = paths["vocab.bpe"].read_text(encoding="utf-8").splitlines()
        merges = [(a, b) for a, b in map(str.split, lines[1:])]  # after "#version"
        vocab = json.loads(paths["encoder.json"].read_text(encoding="utf-8"))
        model = hf.Tokenizer(hf.models.BPE(vocab=vocab, merges=merges))
        model.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = hf.decoders.ByteLevel()
        return cls(model)

    @classmethod
    def restore(cls, model: dict) -> "GPT2":
        return cls(hf.Tokenizer.from_str(json.dumps(model)))

    def encode(self, text: str) -> np.ndarray:
        _utf8(text)
        parts = [self._model.encode(piece).ids for piece in _pieces(text)]
        return np.concatenate([np.asarray(ids, np.int32) for ids in parts or [[]]])

    def decode(self, ids: np.ndarray) -> str:
        return self._model.decode(np.asarray(ids).tolist(), skip_special_tokens=False)

    def to_json(self) -> str:
        return json.dumps({"name": self.name, "model": json.loads(self._model.to_str())})


# GPT-2's pattern never joins what stands on both sides of a single newline between two lines.
_CUT = re.compile(r"\S\n(?=\S)")


def _pieces(text: str, size: int = 1 << 20) -> Iterator[str]:
    """Parts that can be encoded alone: the library keeps a hundred bytes a token of the whole."""
    start = 0
    while start < len(text):
        cut = _CUT.search(text, start + size)
        end = cut.end() if cut else len(text)
        yield text[start:end]
        start = end


def _points(text: str) -> np.ndarray:
    """Code points: u32[len(text)]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        at = error.start
        raise UserError(f"half a surrogate pair, {text[at]!r}, at position {at}") from None

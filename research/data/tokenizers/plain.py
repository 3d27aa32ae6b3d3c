"""Characters, bytes and words.

Vocabularies of characters and words are learnt. Those with special tokens begin with `<pad>` and `<unk>`; then come the names of
`special`.
"""

import collections
import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np

from research.data.tokenizers.base import SPECIAL, known, points, register, utf8
from research.util.errors import UserError


@register
@dataclasses.dataclass(frozen=True)
class Char:
    """One token per character (Unicode code point). `chars` is sorted, as in nanoGPT.

    With special tokens (`names`), another character is `<unk>`; without, it is an error.
    """

    chars: str
    names: tuple[str, ...] = ()
    name: ClassVar[str] = "char"
    options: ClassVar[frozenset] = frozenset({"min_count", "special"})

    @classmethod
    def make(cls, train: str, valid: str = "", min_count: int | None = None, special: Sequence[str] = ()) -> "Char":
        """The characters of both texts; with `min_count`, 1 with `special`, those that `train` has so often, and `<unk>`."""
        if min_count is None and not special:
            return cls("".join(map(chr, np.union1d(points(train), points(valid)))))
        min_count = 1 if min_count is None else min_count
        characters, counts = np.unique(points(train), return_counts=True)
        if min_count < 1 or not (counts >= min_count).any():
            raise UserError(f"data.min_count = {min_count}: at least 1, and at most {counts.max(initial=0):,} here")
        return cls("".join(map(chr, characters[counts >= min_count])), _special_names(special))

    @classmethod
    def restore(cls, chars: str, unknown: bool = False, special: Sequence[str] = ()) -> "Char":
        return cls(chars, _special_names(special) if unknown else ())

    @staticmethod
    def split(text: str) -> list[str]:
        """The characters of a text but white space, in order."""
        return [character for character in text if not character.isspace()]

    @property
    def size(self) -> int:
        return len(self.names) + len(self.chars)

    @property
    def special(self) -> Mapping[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def encode(self, text: str) -> np.ndarray:
        characters, vocabulary = points(text), self._points
        ids = np.minimum(np.searchsorted(vocabulary, characters), len(vocabulary) - 1)
        other = vocabulary[ids] != characters
        if self.names:
            return np.where(other, self.special["unk"], ids + len(self.names)).astype(np.int32)
        if (bad := np.flatnonzero(other)).size:
            at = int(bad[0])
            raise UserError(
                f"character {text[at]!r} (U+{characters[at]:04X}) at position {at} is not among the "
                f"{self.size} of this vocabulary; leave it out, or train with tokenizer 'byte'"
            )
        return ids.astype(np.int32)

    def decode(self, ids: np.ndarray) -> str:
        strings = [*(f"<{name}>" for name in self.names), *self.chars]
        return "".join(strings[i] for i in known(ids, self.size))

    def to_json(self) -> str:
        special = {"special": self.names[2:]} if self.names[2:] else {}
        return json.dumps(
            {"name": self.name, "chars": self.chars, **({"unknown": True} if self.names else {}), **special}
        )

    @functools.cached_property
    def _points(self) -> np.ndarray:
        return points(self.chars)


def _special_names(special: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(("pad", "unk", *special)))


@register
@dataclasses.dataclass(frozen=True)
class Byte:
    """UTF-8 bytes. Invalid UTF-8 is decoded as U+FFFD."""

    size: ClassVar[int] = 256
    name: ClassVar[str] = "byte"
    options: ClassVar[frozenset] = frozenset()
    special: ClassVar[Mapping[str, int]] = {}

    @classmethod
    def make(cls, train: str = "", valid: str = "") -> "Byte":
        return cls()

    @classmethod
    def restore(cls) -> "Byte":
        return cls()

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(utf8(text), np.uint8).astype(np.int32)

    def decode(self, ids: np.ndarray) -> str:
        return known(ids, self.size).astype(np.uint8).tobytes().decode("utf-8", "replace")

    def to_json(self) -> str:
        return json.dumps({"name": self.name})


@register
@dataclasses.dataclass(frozen=True)
class Word:
    """Words separated by white space (`str.split`); a word that is not in `words` is `<unk>`.

    After the special tokens come the words of the training text, sorted by falling frequency and then by code points. Special
    tokens in a text are encoded as such, as WikiText's `<unk>` and `<eos>`, except `<pad>`, which becomes `<unk>`.
    """

    words: tuple[str, ...]
    lowercase: bool = False
    # `split` and `joint` are all in which a tokenizer of other words differs: see research/data/tokenizers/chinese.py.
    name: ClassVar[str] = "word"
    joint: ClassVar[str] = " "  # between the words of a decoded text
    options: ClassVar[frozenset] = frozenset({"vocab_size", "min_count", "lowercase", "special"})

    @classmethod
    def make(
        cls, train: str, valid: str = "", vocab_size: int | None = None, min_count: int = 1, lowercase: bool = False,
        special: Sequence[str] = (),
    ) -> Self:  # fmt: skip
        """At most `vocab_size` tokens, of words that occur at least `min_count` times."""
        first = [f"<{name}>" for name in _special_names(special)]
        if vocab_size is not None and vocab_size <= len(first):
            raise UserError(f"data.vocab_size = {vocab_size}: {' '.join(first)} and at least one word")
        if min_count < 1:
            raise UserError(f"data.min_count = {min_count}: at least 1")
        counts = collections.Counter(cls.split(train.lower() if lowercase else train))
        ranked = sorted((-n, word) for word, n in counts.items() if n >= min_count and word not in first)
        room = None if vocab_size is None else vocab_size - len(first)
        return cls((*first, *(word for _, word in ranked[:room])), lowercase)

    @classmethod
    def restore(cls, words: Sequence[str], lowercase: bool) -> Self:
        return cls(tuple(words), lowercase)

    @staticmethod
    def split(text: str) -> list[str]:
        """The words of a text, in order."""
        return text.split()

    @property
    def size(self) -> int:
        return len(self.words)

    @functools.cached_property
    def special(self) -> Mapping[str, int]:
        ids = {name: self._ids.get(f"<{name}>") for name in SPECIAL}
        return {"pad": 0} | {name: i for name, i in ids.items() if i is not None}

    def encode(self, text: str) -> np.ndarray:
        words = self.split(text.lower() if self.lowercase else text)
        return np.fromiter((self._ids.get(word, 1) for word in words), np.int32, len(words))

    def decode(self, ids: np.ndarray) -> str:
        return self.joint.join(self.words[i] for i in known(ids, self.size))

    def to_json(self) -> str:
        return json.dumps({"name": self.name, "words": self.words, "lowercase": self.lowercase})

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words) if i}

"""Any tokenizer, with tags: special tokens that a text may begin with, as `<2de>` for "into German".

Source: Johnson et al. 2017 (1611.04558), section 3: an artificial token at the beginning of the input names the language wanted.
"""

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from research.data.tokenizers.base import TOKENIZERS, Tokenizer, known, register
from research.util.errors import UserError


@register
class Tagged:
    """`inner`'s tokens, and after them one for each of `tags`. A text that begins with `<TAG> ` begins with that token.

    Elsewhere in a text the characters of a tag are characters. No tokenizer to choose by name: it is made around another.
    """

    name: ClassVar[str] = "tagged"
    options: ClassVar[frozenset] = frozenset()

    def __init__(self, inner: Tokenizer, tags: Sequence[str]):
        self.inner, self.tags = inner, tuple(tags)
        self.ids: Mapping[str, int] = {tag: inner.size + i for i, tag in enumerate(self.tags)}
        self.special: Mapping[str, int] = {**inner.special, **self.ids}
        self.size = inner.size + len(self.tags)

    @classmethod
    def make(cls, train: str, valid: str = "") -> "Tagged":
        raise UserError("data.tokenizer = 'tagged' is made around another: name that, and set data.both_ways")

    @classmethod
    def restore(cls, inner: str, tags: Sequence[str]) -> "Tagged":
        values = json.loads(inner)
        return cls(TOKENIZERS[values.pop("name")].restore(**values), tags)

    def encode(self, text: str) -> np.ndarray:
        first, _, rest = text.partition(" ")
        if (found := self.ids.get(first[1:-1])) is None or first != f"<{first[1:-1]}>":
            return self.inner.encode(text)
        return np.concatenate([np.array([found], np.int32), self.inner.encode(rest)])

    def decode(self, ids: np.ndarray) -> str:
        """Token ids i[T] -> text, each tag as `<TAG> `."""
        ids = known(ids, self.size)
        text, start = "", 0
        for at in [*np.flatnonzero(ids >= self.inner.size), len(ids)]:
            text += self.inner.decode(ids[start:at])
            text += f"<{self.tags[ids[at] - self.inner.size]}> " if at < len(ids) else ""
            start = at + 1
        return text

    def to_json(self) -> str:
        return json.dumps({"name": self.name, "inner": self.inner.to_json(), "tags": self.tags})

"""A tokenizer with markers of who speaks: the tokens of conversations, after those of another tokenizer."""

import itertools
import json
import re
from collections.abc import Mapping
from typing import ClassVar, NoReturn

import numpy as np

from research.data.tokenizers.base import TOKENIZERS, Tokenizer, known, register
from research.util.errors import UserError

SPEAKERS = ("system", "user", "assistant")
END = "<|end|>"  # ends each turn
MARKERS = (*(f"<|{speaker}|>" for speaker in SPEAKERS), END)
_MARKER = re.compile(f"({'|'.join(map(re.escape, MARKERS))})")


@register
class Roles:
    """Ids 0..n-1 are those of `base`, and the markers come after them: rows of a model of `base` keep their meaning.

    `encode` reads the string of a marker as characters: who types it does not speak as another. `encode_with_added` reads it as
    the marker, for text that a template wrote.
    """

    name: ClassVar[str] = "roles"
    options: ClassVar[frozenset] = frozenset()

    def __init__(self, base: Tokenizer):
        self.base, self.size = base, base.size + len(MARKERS)
        self.special: Mapping[str, int] = base.special
        self.added = {marker: base.size + i for i, marker in enumerate(MARKERS)}

    @classmethod
    def make(cls, train: str = "", valid: str = "") -> NoReturn:
        raise UserError(
            "data.tokenizer = 'roles': name the tokenizer of the text; a source of conversations adds the roles"
        )

    @classmethod
    def restore(cls, base: dict) -> "Roles":
        values = dict(base)
        return cls(TOKENIZERS[values.pop("name")].restore(**values))

    def encode(self, text: str) -> np.ndarray:
        return self.base.encode(text)

    def encode_with_added(self, text: str) -> np.ndarray:
        """As `encode`, but the string of a marker is that token."""
        pieces = [piece for piece in _MARKER.split(text) if piece]
        ids = [[self.added[piece]] if piece in self.added else self.base.encode(piece) for piece in pieces]
        return np.concatenate([np.zeros(0, np.int32), *(np.asarray(part, np.int32) for part in ids)])

    def decode(self, ids: np.ndarray) -> str:
        """Token ids i[T] -> text, with the markers' strings."""
        runs = itertools.groupby(known(ids, self.size).tolist(), lambda i: max(i, self.base.size - 1))
        return "".join(self._run(at - self.base.size, list(run)) for at, run in runs)

    def _run(self, marker: int, ids: list[int]) -> str:
        return self.base.decode(np.array(ids)) if marker < 0 else MARKERS[marker] * len(ids)

    def to_json(self) -> str:
        return json.dumps({"name": self.name, "base": json.loads(self.base.to_json())})

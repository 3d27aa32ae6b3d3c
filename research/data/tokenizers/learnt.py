"""Subword tokenizers trained on the training text: byte-pair merges, and a unigram model.

Both split GPT-2's words into pieces of UTF-8 bytes, so that every text can be encoded and is restored exactly: an
unknown character becomes its bytes. Chinese, which has no spaces, is split at punctuation, and pieces may span several
characters. The same text gives the same pieces on every machine: see `_canonical`.

Sources: Sennrich et al. 2016 (1508.07909), Radford et al. 2019 (bytes); Kudo 2018 (1804.10959).
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import tokenizers as hf

from research.data.tokenizers.base import encode, known, pieces, register, utf8
from research.util.errors import UserError

_SPECIAL = ("pad", "cls", "sep", "mask", "bos", "eos")  # ids 0..5; then the pieces
_ALPHABET = sorted(hf.pre_tokenizers.ByteLevel.alphabet())  # a printable character for each byte


class _Learnt:
    """`size` is at most `vocab_size`: a short text may have fewer pieces."""

    name: ClassVar[str]
    _empty: ClassVar[Any]  # the library's model and trainer; conversions between its JSON and `to_json`
    _trainer: ClassVar[Any]
    _values: ClassVar[Any]
    _model_of: ClassVar[Any]
    options: ClassVar[frozenset] = frozenset({"vocab_size"})
    special: Mapping[str, int] = {name: i for i, name in enumerate(_SPECIAL)}

    def __init__(self, model: Any):
        self._model = hf.Tokenizer(model)
        self._model.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._model.decoder = hf.decoders.ByteLevel()
        self.size: int = self._model.get_vocab_size() + len(_SPECIAL)

    @classmethod
    def make(cls, train: str, valid: str = "", vocab_size: int | None = None) -> "_Learnt":
        least = len(_SPECIAL) + len(_ALPHABET)
        if vocab_size is None:
            raise UserError(f"tokenizer {cls.name!r} learns its vocabulary: set data.vocab_size, above {least}")
        if vocab_size <= least:
            raise UserError(f"data.vocab_size = {vocab_size}: above {least}, 256 bytes and {len(_SPECIAL)} special")
        if not utf8(train):
            raise UserError(f"tokenizer {cls.name!r}: there is no text to learn from")
        learner = cls(cls._empty())
        trainer = cls._trainer(vocab_size=vocab_size - len(_SPECIAL), initial_alphabet=_ALPHABET, show_progress=False)
        learner._model.train_from_iterator(_parts(train), trainer)
        return cls.restore(cls._values(json.loads(learner._model.to_str())["model"]))

    @classmethod
    def restore(cls, model: Any) -> "_Learnt":
        return cls(cls._model_of(model))

    def encode(self, text: str) -> np.ndarray:
        return encode(self._model, text) + np.int32(len(_SPECIAL))

    def decode(self, ids: np.ndarray) -> str:
        """Token ids i[T] -> text, with special tokens as `<eos>` and invalid UTF-8 as U+FFFD."""
        runs = itertools.groupby(known(ids, self.size).tolist(), lambda i: i if i < len(_SPECIAL) else -1)
        return "".join(self._run(at, list(run)) for at, run in runs)

    def _run(self, special: int, ids: list[int]) -> str:
        if special >= 0:
            return f"<{_SPECIAL[special]}>" * len(ids)
        return self._model.decode([i - len(_SPECIAL) for i in ids], skip_special_tokens=False)

    def to_json(self) -> str:
        model = json.loads(self._model.to_str())["model"]
        return json.dumps({"name": self.name, "model": self._values(model)})


_LONG = re.compile(r"\S{256}")


def _parts(text: str) -> Iterator[str]:
    """Parts of the text with no word longer than 256 characters: the trainers keep all segmentations of a word in memory."""
    for piece in pieces(text):
        start = 0
        for match in _LONG.finditer(piece):
            yield piece[start : match.end()]
            start = match.end()
        yield piece[start:]


@register
class BPE(_Learnt):
    """Byte-pair encoding: the most frequent adjacent pair is merged into a piece, repeatedly (Sennrich et al. 2016)."""

    name = "bpe"
    _empty = hf.models.BPE
    _trainer = hf.trainers.BpeTrainer

    @staticmethod
    def _values(model: dict) -> dict:
        return {"vocab": model["vocab"], "merges": model["merges"]}

    @staticmethod
    def _model_of(values: dict) -> Any:
        return hf.models.BPE(vocab=values["vocab"], merges=[(a, b) for a, b in values["merges"]])


@register
class Unigram(_Learnt):
    """The most probable segmentation under a unigram model of pieces (Kudo 2018)."""

    name = "unigram"
    _empty = hf.models.Unigram
    _trainer = hf.trainers.UnigramTrainer

    @staticmethod
    def _values(model: dict) -> list:
        return _canonical(model["vocab"])

    @staticmethod
    def _model_of(values: list) -> Any:
        return hf.models.Unigram(vocab=[(piece, score) for piece, score in values])


def _canonical(vocab: list) -> list:
    """[piece, log probability], independent of the iteration order of the library's hash tables.

    That order changes the last bits of the sums, and the scores of bytes that did not occur, which are multiples
    of 0.0001 above the lowest score: sums are rounded, and those bytes get the lowest score.
    """
    least = min(score for _, score in vocab)
    near = least + 1e-4 * len(_ALPHABET)
    scores = {piece: least if len(piece) == 1 and score <= near else score for piece, score in vocab}
    return sorted(([piece, round(score, 6)] for piece, score in scores.items()), key=lambda row: (-row[1], row[0]))

"""WordPiece with the vocabulary of BERT base, uncased (Devlin et al. 2019, 1810.04805)."""

import json
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import tokenizers as hf

from research.data import download
from research.data.tokenizers.base import encode, known, register

BERT_FILES = (
    download.File(
        "vocab.txt",
        "https://huggingface.co/google-bert/bert-base-uncased/resolve/main/vocab.txt",
        "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        231508,
    ),
)
_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


@register
class WordPiece:
    """30,522 pieces; one that continues a word begins with `##`. A word that cannot be split into pieces is `[UNK]`.

    Text is lower-cased; accents, control characters and the kind of white space are removed; every
    Chinese character is a word. Decoding puts one space between words. A literal `[MASK]` in a text
    is encoded as its characters.
    """

    name: ClassVar[str] = "wordpiece"
    options: ClassVar[frozenset] = frozenset()

    def __init__(self, vocab: list[str]):
        self.size = len(vocab)
        self.special: Mapping[str, int] = {name: vocab.index(token) for name, token in _SPECIAL.items()}
        self.continues = np.array([piece.startswith("##") for piece in vocab])  # bool[V]: continues a word
        self._vocab = vocab
        pieces = {piece: i for i, piece in enumerate(vocab)}
        model = hf.Tokenizer(hf.models.WordPiece(vocab=pieces, unk_token="[UNK]", max_input_chars_per_word=100))
        model.normalizer = hf.normalizers.BertNormalizer(lowercase=True)
        model.pre_tokenizer = hf.pre_tokenizers.BertPreTokenizer()
        model.decoder = hf.decoders.WordPiece(prefix="##", cleanup=False)
        self._model = model

    @classmethod
    def make(cls, train: str = "", valid: str = "") -> "WordPiece":
        text = download.read(download.fetch("bert_vocab", BERT_FILES)["vocab.txt"]).decode("utf-8")
        return cls(text.rstrip("\n").split("\n"))

    @classmethod
    def restore(cls, vocab: list[str]) -> "WordPiece":
        return cls(vocab)

    def encode(self, text: str) -> np.ndarray:
        return encode(self._model, text)

    def decode(self, ids: np.ndarray) -> str:
        return self._model.decode(known(ids, self.size).tolist(), skip_special_tokens=False)

    def to_json(self) -> str:
        return json.dumps({"name": self.name, "vocab": self._vocab})

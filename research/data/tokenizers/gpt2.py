"""GPT-2's byte-level BPE (Radford et al. 2019)."""

import json
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import tokenizers as hf

from research.data import download
from research.data.tokenizers.base import encode, known, register

GPT2_FILES = (
    download.File(
        "encoder.json",
        "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/encoder.json",
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        1042301,
    ),
    download.File(
        "vocab.bpe",
        "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe",
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        456318,
    ),
)


@register
class GPT2:
    """50,257 tokens, of which 50,256 is both `bos` and `eos`.

    A literal `<|endoftext|>` in a text is encoded as its characters, never as token 50,256.
    """

    name: ClassVar[str] = "gpt2"
    options: ClassVar[frozenset] = frozenset()
    special: Mapping[str, int] = {"bos": 50256, "eos": 50256}

    def __init__(self, model: hf.Tokenizer):
        self._model = model
        self.size: int = model.get_vocab_size()

    @classmethod
    def make(cls, train: str = "", valid: str = "") -> "GPT2":
        paths = download.fetch("gpt2_bpe", GPT2_FILES)
        lines = download.read(paths["vocab.bpe"]).decode("utf-8").splitlines()
        merges = [(a, b) for a, b in map(str.split, lines[1:])]  # after "#version"
        vocab = json.loads(download.read(paths["encoder.json"]))
        model = hf.Tokenizer(hf.models.BPE(vocab=vocab, merges=merges))
        model.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = hf.decoders.ByteLevel()
        return cls(model)

    @classmethod
    def restore(cls, model: dict) -> "GPT2":
        return cls(hf.Tokenizer.from_str(json.dumps(model)))

    def encode(self, text: str) -> np.ndarray:
        return encode(self._model, text)

    def decode(self, ids: np.ndarray) -> str:
        return self._model.decode(known(ids, self.size).tolist(), skip_special_tokens=False)

    def to_json(self) -> str:
        return json.dumps({"name": self.name, "model": json.loads(self._model.to_str())})

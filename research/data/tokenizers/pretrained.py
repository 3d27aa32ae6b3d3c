"""A tokenizer.json of Hugging Face's `tokenizers` library."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import tokenizers as hf

from research.data.tokenizers.base import SPECIAL, known, register, utf8
from research.util import run_files
from research.util.errors import UserError

# Special tokens' usual strings.
_NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<cls>"),
    "sep": ("[SEP]", "<sep>"),
    "mask": ("[MASK]", "<mask>"),
    "bos": ("<s>", "<bos>", "<|begin_of_text|>", "<|endoftext|>"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
}


@register
class Pretrained:
    """The tokenizer of the file, with its normalisation, pieces and special tokens.

    `size` may exceed the vocabulary, because embedding tables are often padded to a round number of rows. A special token's
    string in a text is encoded as its characters.
    """

    name: ClassVar[str] = "pretrained"
    options: ClassVar[frozenset] = frozenset({"path", "vocab_size"})

    def __init__(self, model: hf.Tokenizer, size: int | None = None):
        ids = model.get_vocab(with_added_tokens=True)
        least = max(ids.values(), default=-1) + 1
        if size is not None and size < least:
            raise UserError(f"data.vocab_size = {size}: the tokenizer has {least:,} tokens")
        self._model, self.size = model, size or least
        self._model.encode_special_tokens = True
        special = {name: next((ids[token] for token in _NAMES[name] if token in ids), None) for name in SPECIAL}
        self.special: Mapping[str, int] = {name: i for name, i in special.items() if i is not None}

    @classmethod
    def make(cls, train: str = "", valid: str = "", path: str = "", vocab_size: int | None = None) -> "Pretrained":
        """`path`: the file; `vocab_size`: the rows of the model's embedding table, if more than tokens."""
        if not path:
            raise UserError("data.tokenizer = 'pretrained': give the path of its tokenizer.json in place of the name")
        try:
            model = hf.Tokenizer.from_str(Path(path).read_text(encoding="utf-8"))
        except OSError as e:
            raise UserError(f"data.tokenizer = {path}: cannot read it: {e.strerror}") from None
        except Exception as e:  # the library's errors have no class of their own
            raise UserError(f"data.tokenizer = {path} is no tokenizer.json: {str(e).splitlines()[0]}") from None
        return cls(model, vocab_size)

    @classmethod
    def restore(cls, model: dict, size: int) -> "Pretrained":
        return cls(hf.Tokenizer.from_str(json.dumps(model)), size)

    def encode(self, text: str) -> np.ndarray:
        utf8(text)
        try:
            return np.asarray(self._model.encode(text, add_special_tokens=False).ids, np.int32)
        except BaseException as e:
            if type(e).__name__ != "PanicException":  # Rust's: no Exception, and of a class that cannot be imported
                raise
            raise UserError(
                "the tokenizer.json has a regular expression that does not end on this text, as nested repetitions do: "
                f"{run_files.shown(text)}; simplify its patterns"
            ) from None

    def decode(self, ids: np.ndarray) -> str:
        """Token ids i[T] -> text; ids that are padding of the table add nothing."""
        return self._model.decode(known(ids, self.size).tolist(), skip_special_tokens=False)

    def to_json(self) -> str:
        return json.dumps({"name": self.name, "model": json.loads(self._model.to_str()), "size": self.size})

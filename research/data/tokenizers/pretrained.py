"""A tokenizer.json of Hugging Face's `tokenizers` library."""

import functools
import json
import sys
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import tokenizers as hf

from research.data import user_files
from research.data.tokenizers.base import SPECIAL, known, register, utf8
from research.util import home, run_files
from research.util.errors import UserError
from research.util.escape import visible

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
    string in a text is encoded as its characters. A text is encoded whole, also if the file asks to cut or to fill texts.

    prefix  ids of the special tokens that the file puts before a text, `<s>` for instance: `encode` does not
    added   {string: id} of the tokens that were added to the vocabulary, special ones and the markers of chats
    """

    name: ClassVar[str] = "pretrained"
    options: ClassVar[frozenset] = frozenset({"path", "vocab_size"})

    def __init__(self, model: hf.Tokenizer, size: int | None = None):
        ids = model.get_vocab(with_added_tokens=True)
        least = max(ids.values(), default=-1) + 1
        if size is not None and size < least:
            raise UserError(f"data.vocab_size = {size}: the tokenizer has {least:,} tokens")
        model.no_truncation()
        model.no_padding()
        self._model, self.size = model, size or least
        self._model.encode_special_tokens = True
        special = {name: next((ids[token] for token in _NAMES[name] if token in ids), None) for name in SPECIAL}
        self.special: Mapping[str, int] = {name: i for name, i in special.items() if i is not None}
        self.added = {token.content: i for i, token in model.get_added_tokens_decoder().items()}
        self.prefix = _prefix(model)

    @classmethod
    def make(cls, train: str = "", valid: str = "", path: str = "", vocab_size: int | None = None) -> "Pretrained":
        """`path`: the file; `vocab_size`: the rows of the model's embedding table, if more than tokens.

        Prints a line on stderr for each request of the file that is switched off.
        """
        if not path:
            raise UserError("data.tokenizer = 'pretrained': give the path of its tokenizer.json in place of the name")
        try:
            text = user_files.text(home.expanded(path, "data.tokenizer"))
        except user_files.Unreadable as e:
            raise UserError(f"data.tokenizer = {path}: cannot read it: {e}") from None
        try:
            values = json.loads(text)
            switched_off = [what for what, off in _SWITCHED_OFF.items() if off(values)]
            model = hf.Tokenizer.from_str(json.dumps(values))
        except Exception as e:  # the library's errors have no class of their own
            reason = (str(e).splitlines() or [type(e).__name__])[0]
            raise UserError(f"data.tokenizer = {path} is no tokenizer.json: {reason}") from None
        if switched_off:
            line = f"almanac: {path} asks {' and '.join(switched_off)}; this is switched off, texts are encoded whole"
            print(visible(line), file=sys.stderr)
        return cls(model, vocab_size)

    @classmethod
    def restore(cls, model: dict, size: int) -> "Pretrained":
        return cls(hf.Tokenizer.from_str(json.dumps(model)), size)

    def encode(self, text: str) -> np.ndarray:
        utf8(text)
        return _encode(self._model, text)

    def encode_with_added(self, text: str) -> np.ndarray:
        """As `encode`, but the string of an added token is that token."""
        utf8(text)
        return _encode(self._with_added, text)

    @functools.cached_property
    def _with_added(self) -> hf.Tokenizer:
        return hf.Tokenizer.from_str(self._model.to_str())  # which does not keep `encode_special_tokens`

    def decode(self, ids: np.ndarray) -> str:
        """Token ids i[T] -> text; ids that are padding of the table add nothing."""
        return self._model.decode(known(ids, self.size).tolist(), skip_special_tokens=False)

    def to_json(self) -> str:
        return json.dumps({"name": self.name, "model": json.loads(self._model.to_str()), "size": self.size})


def _cuts(values: dict) -> bool:
    return bool(values.pop("truncation", None))


def _fills(values: dict) -> bool:
    return bool(values.pop("padding", None))


def _draws(values: dict) -> bool:
    return bool(values["model"].pop("dropout", None))


# What a file asks for: whether a file's values do, which are changed so that they do not.
_SWITCHED_OFF = {"to cut texts": _cuts, "to fill texts up": _fills, "to draw merges at random": _draws}


def _prefix(model: hf.Tokenizer) -> list[int]:
    """The ids that the post-processor puts before a text."""
    if model.post_processor is None:
        return []
    one = hf.Tokenizer(hf.models.WordLevel({"a": 0}, unk_token="a")).encode("a")
    processed = model.post_processor.process(one)
    return processed.ids[: processed.special_tokens_mask.index(0)]


def _encode(model: hf.Tokenizer, text: str) -> np.ndarray:
    try:
        return np.asarray(model.encode(text, add_special_tokens=False).ids, np.int32)
    except BaseException as e:
        if type(e).__name__ != "PanicException":  # Rust's: no Exception, and of a class that cannot be imported
            raise
        raise UserError(
            "the tokenizer.json has a regular expression that does not end on this text, as nested repetitions do: "
            f"{run_files.shown(text)}; simplify its patterns"
        ) from None

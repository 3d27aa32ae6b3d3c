"""Chinese words, as the library jieba cuts them: its dictionary, and its hidden Markov model for words that are not in it."""

import dataclasses
import functools
import importlib.metadata
import json
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from research.data.tokenizers.base import register
from research.data.tokenizers.plain import Word
from research.util.errors import UserError


@register
@dataclasses.dataclass(frozen=True)
class Jieba(Word):
    """`Word` with the words of jieba in place of those between white space, which is no token.

    A text is decoded without spaces. Another version of jieba may cut differently: a run's tokenizer needs the one that it
    was trained with. Raises UserError if jieba, or that version of it, is not installed.
    """

    name: ClassVar[str] = "jieba"
    joint: ClassVar[str] = ""

    @classmethod
    def restore(cls, words: Sequence[str], lowercase: bool, version: str = "") -> Self:
        if version not in ("", installed := _version()):
            raise UserError(
                f"this tokenizer was trained with jieba {version}, {installed} is installed: pip install jieba=={version}"
            )
        return super().restore(words, lowercase)

    @staticmethod
    def split(text: str) -> list[str]:
        return [word for line in text.split("\n") for word in _cut(line)]

    def to_json(self) -> str:
        return json.dumps({**json.loads(super().to_json()), "version": _version()})


def _version() -> str:
    try:
        return importlib.metadata.version("jieba")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            "the tokenizer 'jieba' needs the library jieba, which is not installed: pip install 'almanac[chinese]'"
        ) from None


@functools.lru_cache(maxsize=1 << 16)  # a training text is cut for the vocabulary, and again to be encoded
def _cut(line: str) -> tuple[str, ...]:
    return tuple(word for word in _segmenter().cut(line) if not word.isspace())


@functools.cache
def _segmenter() -> Any:
    """jieba's own start-up would unmarshal a cache file in the folder of temporary files, where another user may have put
    one, and write one there; so its dictionary is read here, in a second."""
    _version()
    import jieba

    segmenter = jieba.Tokenizer()
    segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(segmenter.get_dict_file())
    segmenter.initialized = True
    return segmenter

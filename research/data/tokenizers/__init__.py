"""Text <-> integers.

char      one token a character                         vocabulary: the characters of the whole text
byte      UTF-8 bytes                                   256
word      what white space parts, the rest `<unk>`      the training text's words
gpt2      GPT-2's byte-level BPE                        OpenAI's 50,257
wordpiece BERT's pieces of lower-cased words            Google's 30,522
bpe       byte-level BPE                                learnt from the training text
unigram   a unigram model's likeliest pieces            learnt from the training text

The path of a .json, Hugging Face's tokenizer.json, is a tokenizer's name, too.

A tokenizer is kept with a run as JSON text (`to_json`, `from_json`) and needs no file to come back.
"""

import json
from typing import Any

from research.data.tokenizers import gpt2, learnt, plain, pretrained, wordpiece  # noqa: F401  (they register)
from research.data.tokenizers.base import SPECIAL, TOKENIZERS, Tokenizer
from research.util.errors import UserError, nearest

__all__ = ["SPECIAL", "TOKENIZERS", "Tokenizer", "from_json", "make"]


def make(name: str, train: str, valid: str = "", **options: Any) -> Tokenizer:
    """The tokenizer called `name`; what it learns it learns from `train` alone, but for `char`.

    `char` knows the characters of `valid`, too. Options: vocab_size (word, bpe, unigram, a .json), min_count,
    lowercase and special (word). One that is given (not None) and means nothing is an error.
    """
    if name.endswith(".json"):
        name, options = "pretrained", {"path": name, **options}
    elif name not in TOKENIZERS:
        raise UserError(f"no tokenizer {name!r}{nearest(name, TOKENIZERS)}")
    cls = TOKENIZERS[name]
    given = {key: value for key, value in options.items() if value is not None}
    for key, value in given.items():
        if key not in cls.options:
            raise UserError(f"data.{key} = {value!r} means nothing to the tokenizer {name!r}; leave it None")
    return cls.make(train, valid, **given)


def from_json(text: str) -> Tokenizer:
    """The tokenizer whose `to_json` wrote `text`."""
    values = json.loads(text)
    return TOKENIZERS[values.pop("name")].restore(**values)

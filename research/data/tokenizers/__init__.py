"""Text <-> integers.

char      one token per character                       vocabulary: the characters of all texts
byte      UTF-8 bytes                                   256
word      words separated by white space, or `<unk>`    the training text's words
gpt2      GPT-2's byte-level BPE                        OpenAI's 50,257
wordpiece BERT's pieces of lower-cased words            Google's 30,522
bpe       byte-level BPE                                trained on the training text
unigram   most probable pieces of a unigram model       trained on the training text

The path of a Hugging Face tokenizer.json is a tokenizer's name too.

A run stores its tokenizer as JSON text (`to_json`), from which it is restored without other files (`from_json`).

>>> tokenizer = make("word", train="the cat and the dog")
>>> tokenizer.encode("the bird").tolist(), tokenizer.decode([2, 1])
([2, 1], 'the <unk>')
"""

import json
from typing import Any

from research.data.tokenizers import gpt2, learnt, plain, pretrained, tagged, wordpiece  # noqa: F401  (they register)
from research.data.tokenizers.base import SPECIAL, TOKENIZERS, Tokenizer, encode_with_added, opened
from research.util.errors import UserError, nearest

__all__ = ["SPECIAL", "TOKENIZERS", "Tokenizer", "encode_with_added", "from_json", "make", "opened"]


def make(name: str, train: str, valid: str = "", **options: Any) -> Tokenizer:
    """The tokenizer called `name`, trained on `train` if it is trainable; `char` has the characters of `valid` too.

    Options: vocab_size (word, bpe, unigram, a .json), min_count, lowercase and special (word). Raises UserError for an
    unknown name, and for an option that is not None and that the tokenizer does not have.
    """
    if name.endswith(".json"):
        name, options = "pretrained", {"path": name, **options}
    elif name not in TOKENIZERS:
        raise UserError(f"no tokenizer {name!r}{nearest(name, TOKENIZERS)}")
    cls = TOKENIZERS[name]
    options = {key: value for key, value in options.items() if value is not None}
    for key, value in options.items():
        if key not in cls.options:
            raise UserError(f"data.{key} = {value!r} means nothing to the tokenizer {name!r}; leave it None")
    return cls.make(train, valid, **options)


def from_json(text: str) -> Tokenizer:
    """The tokenizer whose `to_json` wrote `text`."""
    values = json.loads(text)
    return TOKENIZERS[values.pop("name")].restore(**values)

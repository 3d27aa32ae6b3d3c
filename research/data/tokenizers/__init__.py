"""Text <-> integers.

char      one token per character                       vocabulary: the characters of all texts, or with min_count
                                                        those of the training text, and `<unk>`
byte      UTF-8 bytes                                   256
word      words separated by white space, or `<unk>`    the training text's words
jieba     Chinese words, as jieba cuts them, or `<unk>`  the training text's words
gpt2      GPT-2's byte-level BPE                        OpenAI's 50,257
wordpiece BERT's pieces of lower-cased words            Google's 30,522
bpe       byte-level BPE                                trained on the training text
unigram   most probable pieces of a unigram model       trained on the training text

The path of a Hugging Face tokenizer.json is a tokenizer's name too, and so is that of a run's vocabulary.json.

A run stores its tokenizer as JSON text (`to_json`), from which it is restored without other files (`from_json`).

>>> tokenizer = make("word", train="the cat and the dog")
>>> tokenizer.encode("the bird").tolist(), tokenizer.decode([2, 1])
([2, 1], 'the <unk>')
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from research.data import user_files
from research.data.tokenizers import (  # noqa: F401  (they register)
    chinese,
    gpt2,
    learnt,
    plain,
    pretrained,
    roles,
    tagged,
    wordpiece,
)
from research.data.tokenizers.base import SPECIAL, TOKENIZERS, Tokenizer, encode_with_added, opened
from research.util import home
from research.util.errors import UserError, nearest
from research.util.run_files import VOCABULARY

__all__ = ["SPECIAL", "TOKENIZERS", "Tokenizer", "encode_with_added", "from_json", "make", "opened"]


def make(name: str, train: str, valid: str = "", **options: Any) -> Tokenizer:
    """The tokenizer called `name`, trained on `train` if it is trainable; `char` has the characters of `valid` too.

    Options: vocab_size (word, jieba, bpe, unigram, a .json), min_count (word, jieba, char), lowercase and special (word,
    jieba). Raises UserError for an unknown name, and for an option that is not None and that the tokenizer does not have.
    """
    if Path(name).name == VOCABULARY:
        return _of_run(name, options)
    if name.endswith(".json"):
        name, options = "pretrained", {"path": name, **options}
    elif name not in TOKENIZERS:
        raise UserError(f"no tokenizer {name!r}{nearest(name, TOKENIZERS)}")
    cls = TOKENIZERS[name]
    return cls.make(train, valid, **_given(options, name, cls.options))


def _given(options: dict[str, Any], name: str, known: Collection[str]) -> dict[str, Any]:
    """The options that are not None. Raises UserError for one that is not known."""
    given = {key: value for key, value in options.items() if value is not None}
    for key, value in given.items():
        if key not in known:
            raise UserError(f"data.{key} = {value!r} means nothing to the tokenizer {name!r}; leave it None")
    return given


def _of_run(path: str, options: dict[str, Any]) -> Tokenizer:
    """The tokenizer that a run keeps, to train on with the same tokens."""
    _given(options, path, ())
    kept = user_files.json_value(home.expanded(path, "data.tokenizer"))
    try:
        (values,) = kept
        return from_json(json.dumps(values))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"data.tokenizer = {path}: want the {VOCABULARY} of a run that reads one vocabulary") from None


def from_json(text: str) -> Tokenizer:
    """The tokenizer whose `to_json` wrote `text`."""
    values = json.loads(text)
    return TOKENIZERS[values.pop("name")].restore(**values)

"""Text <-> integers.

char      one token per character                       vocabulary: the characters of all texts, or with min_count
                                                        or special tokens those of the training text, and `<unk>`
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
from collections.abc import Collection, Sequence
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
from research.data.tokenizers.base import SPECIAL, TOKENIZERS, Tokenizer, encode_with_added, opened, special_ids
from research.util import home
from research.util.errors import UserError, nearest
from research.util.run_files import VOCABULARY

__all__ = ["SPECIAL", "TOKENIZERS", "Tokenizer", "encode_with_added", "from_json", "make", "opened", "special_ids"]


def make(
    name: str, train: str, valid: str = "", *, special: Sequence[str] = (), optional: Sequence[str] = (), **options: Any
) -> Tokenizer:
    """The tokenizer called `name`, trained on `train` if it is trainable; `char` has the characters of `valid` too.

    special   names of `SPECIAL` whose tokens the caller needs: char, word and jieba get them, another has to have them
    optional  such names that another tokenizer may lack; char, word and jieba get them before those of `special`

    Options: vocab_size (word, jieba, bpe, unigram, a .json), min_count (word, jieba, char) and lowercase (word, jieba).
    Raises UserError for an unknown name, for an option that is not None and that the tokenizer does not have, and for a
    special token that it lacks.

    >>> make("char", train="ab", special=("eos",)).special
    {'pad': 0, 'unk': 1, 'eos': 2}
    """
    if unknown := [each for each in (*optional, *special) if each not in SPECIAL]:
        raise UserError(f"special token {unknown[0]!r}: one of {', '.join(SPECIAL)}")
    tokenizer = _made(name, train, valid, (*optional, *special), options)
    special_ids(tokenizer, special, name)
    return tokenizer


def _made(name: str, train: str, valid: str, special: Sequence[str], options: dict[str, Any]) -> Tokenizer:
    if Path(name).name == VOCABULARY:
        return _of_run(name, options)
    if name.endswith(".json"):
        name, options = "pretrained", {"path": name, **options}
    elif name not in TOKENIZERS:
        raise UserError(f"no tokenizer {name!r}{nearest(name, TOKENIZERS)}")
    cls = TOKENIZERS[name]
    given = _given(options, name, cls.options)
    return cls.make(train, valid, **given, **({"special": special} if "special" in cls.options else {}))


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

"""Texts as the word tokenisers of three published protocols leave them: words parted by single spaces.

none    as it is, but for white space
kim     Kim 2014's `clean_str_sst`: what is no letter, digit or one of ( ) , ! ? ' ` becomes a space; lower case
joulin  fastText's `classification-results.sh` (Joulin et al. 2016): lower case, punctuation apart, ; : and " away
keras   Keras' `Tokenizer`: lower case, punctuation but the apostrophe becomes a space; of HTML the tags' names stay
"""

import re
from collections.abc import Callable

from research.util.errors import UserError, nearest

_KIM = re.compile(r"[^A-Za-z0-9(),!?'`]")
_KERAS = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n', " "))
_JOULIN = str.maketrans({mark: f" {mark} " for mark in "'.,()!?"} | dict.fromkeys('"', "") | dict.fromkeys(";:", " "))


def _none(text: str) -> str:
    return text


def _kim(text: str) -> str:
    return _KIM.sub(" ", text).lower()


def _joulin(text: str) -> str:
    return text.lower().replace("<br />", " ").translate(_JOULIN)


def _keras(text: str) -> str:
    return text.lower().translate(_KERAS)


NORMALISERS = {"none": _none, "kim": _kim, "joulin": _joulin, "keras": _keras}


def make(name: str) -> Callable[[str], str]:
    """The normaliser called `name`: text -> text."""
    if name not in NORMALISERS:
        raise UserError(f"data.normalise = {name!r}: there is no such normaliser{nearest(name, NORMALISERS)}")
    return lambda text: " ".join(NORMALISERS[name](text).split())

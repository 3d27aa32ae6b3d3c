"""The text normalisation of three published protocols; words are separated by single spaces.

none    only white space is normalised
kim     Kim 2014's `clean_str_sst`: all but letters, digits and ( ) , ! ? ' ` becomes a space; lower case
joulin  fastText's `classification-results.sh` (Joulin et al. 2016): lower case, punctuation is separated, ; : and " removed
keras   Keras' `Tokenizer`: lower case, punctuation except the apostrophe becomes a space; the names of HTML tags stay
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
    """The normaliser called `name`: text -> text. Raises UserError if there is none.

    >>> make("joulin")("It's good!")
    "it ' s good !"
    """
    if name not in NORMALISERS:
        raise UserError(f"data.normalise = {name!r}: there is no such normaliser{nearest(name, NORMALISERS)}")
    return lambda text: " ".join(NORMALISERS[name](text).split())

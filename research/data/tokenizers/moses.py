"""Tokens of European languages as Moses' tokenizer.perl parts and escapes them, lower-cased or not, and back to text.

The rules that captions and news need, not all of Moses': no list of abbreviations but that a full stop inside a line stays
with its word, no protected patterns, hyphens stay. On Multi30k the lines of the published tokenised files come out equal in
the share that `tests/data/test_moses.py` states.
"""

import re

_PLAIN = str.maketrans(dict.fromkeys("„“”«»", '"') | dict.fromkeys("‘’‚´`", "'") | {"–": "-"})
_ESCAPES = (
    ("&", "&amp;"), ("|", "&#124;"), ("<", "&lt;"), (">", "&gt;"), ("'", "&apos;"), ('"', "&quot;"), ("[", "&#91;"),
    ("]", "&#93;"),
)  # fmt: skip
_APART = re.compile(r"([^\w\s.'`,\-])")  # every other sign is a token of its own
_COMMA = re.compile(r",(?!\d)|(?<!\d),")  # not inside a number
_BEFORE, _AFTER = set(".,!?;:%)]}"), set("([{")


def tokenize(text: str, language: str = "en") -> str:
    """A line of text -> its tokens with a space between.

    English alone: `'s` is one token, and a quotation ends after the full stop.
    """
    text = " ".join(text.translate(_PLAIN).split())
    if language == "en":
        text = re.sub(r'"([.,]+)', r'\1"', text)
    text = _COMMA.sub(" , ", _APART.sub(r" \1 ", text))
    text = re.sub(r"\.\.+", lambda dots: f" {dots[0]} ", text)
    text = re.sub(r"(?<=[^\s.])\.(?=[\s\"')\]]*$)", " . ", text)  # the last full stop of the line
    if language == "en":
        text = re.sub(r"(?<![^\W\d_])'|'(?![^\W\d_])", " ' ", text)
        text = re.sub(r"(?<=[^\W\d_])'(?=[^\W\d_])", " '", text)
        text = re.sub(r"(?<=\d)'(?=s)", " '", text)
    else:
        text = text.replace("'", " ' ")
    for sign, name in _ESCAPES:
        text = text.replace(sign, name)
    return " ".join(text.split())


def detokenize(tokens: str) -> str:
    """Tokens with a space between -> text as it is written: signs against their words, quotes in pairs."""
    for sign, name in reversed(_ESCAPES):
        tokens = tokens.replace(name, sign)
    out, glue, inside = "", True, False
    for token in tokens.split():
        opens = token == '"' and not inside
        closes = token == '"' and inside
        inside ^= token == '"'
        against = (
            closes or (token[0] in _BEFORE and not token[1:2].isalnum()) or (token[0] == "'" and out[-1:].isalnum())
        )
        out += token if glue or against else f" {token}"
        glue = opens or token in _AFTER or token == "'" and against
    return out

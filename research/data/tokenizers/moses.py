"""Words as the scripts of Moses part and escape them, and back to text, by the library sacremoses.

All 64,028 lines of Multi30k (English and German, training to test of 2017), lower-cased before, have the words of the
published tokenised files.
"""

import functools
from typing import Any


def tokenize(text: str, language: str = "en") -> str:
    """A line -> its tokens with a space between, by normalize-punctuation.perl and then tokenizer.perl without options.

    Lower-case before, not after, where the published text was: case decides whether a full stop ends an abbreviation.
    """
    normalizer, tokenizer, _ = _scripts(language)
    return " ".join(tokenizer.tokenize(normalizer.normalize(f"{text}\n")))  # Perl's rules see the end of the line


def detokenize(tokens: str, language: str = "en") -> str:
    """Tokens with a space between -> text as it is written: detokenizer.perl."""
    return _scripts(language)[2].detokenize(tokens.split())


@functools.cache
def _scripts(language: str) -> tuple[Any, Any, Any]:
    import sacremoses  # half a second

    normalizer = sacremoses.MosesPunctNormalizer(language, perl_parity=True)
    return normalizer, sacremoses.MosesTokenizer(language), sacremoses.MosesDetokenizer(language)

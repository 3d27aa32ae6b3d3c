"""Moses' tokenizer and detokenizer, by the library sacremoses.

On all 64,028 lower-cased lines of Multi30k (English and German, training to test of 2017) the tokens equal those of the
published tokenised files.
"""

import functools
from typing import Any


def tokenize(text: str, language: str = "en") -> str:
    """A line -> its tokens, separated by spaces: normalize-punctuation.perl and then tokenizer.perl without options.

    To reproduce a lower-cased corpus, lower-case before: case decides whether a full stop ends an abbreviation.

    >>> tokenize("It's here.")
    'It &apos;s here .'
    """
    normalizer, tokenizer, _ = _scripts(language)
    return " ".join(tokenizer.tokenize(normalizer.normalize(f"{text}\n")))  # Perl's rules see the end of the line


def detokenize(tokens: str, language: str = "en") -> str:
    """Tokens separated by spaces -> plain text: detokenizer.perl."""
    return _scripts(language)[2].detokenize(tokens.split())


@functools.cache
def _scripts(language: str) -> tuple[Any, Any, Any]:
    import sacremoses  # half a second

    normalizer = sacremoses.MosesPunctNormalizer(language, perl_parity=True)
    return normalizer, sacremoses.MosesTokenizer(language), sacremoses.MosesDetokenizer(language)

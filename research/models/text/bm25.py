"""BM25, the baseline retriever, by the library bm25s: nothing is trained; k1 and b are chosen."""

import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from research.data.text.spans import words
from research.util.errors import UserError


class BM25:
    """The score of passage d for question q, over the words t of q, counted with their repetitions:

        ln(1 + (M - df + 0.5) / (df + 0.5)) * tf / (tf + k1 (1 - b + b |d| / mean |d|))

    with M passages, df of them holding t, and t occurring tf times in d: Lucene's form (Kamphuis et al. 2020). Words are those
    of `research.data.text.spans.words`, in lower case; no stemming, and no stop words.
    """

    def __init__(self, passages: Sequence[str], k1: float = 1.5, b: float = 0.75):
        import bm25s  # not at the top: it starts JAX, before a run has chosen its device

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # else it logs each index
        if not any(map(_terms, passages)):
            raise UserError(f"there is no word in {len(passages)} passages to search in")
        self._size = len(passages)
        self._index = bm25s.BM25(k1=k1, b=b, method="lucene")
        self._index.index([_terms(passage) for passage in passages], show_progress=False)

    def scores(self, question: str) -> Float32[np.ndarray, " M"]:
        """Those of all passages; 0 for a passage that shares no word with the question."""
        terms = [term for term in _terms(question) if term in self._index.vocab_dict]
        return self._index.get_scores(terms) if terms else np.zeros(self._size, np.float32)


def _terms(text: str) -> list[str]:
    return words(text.lower())[0]

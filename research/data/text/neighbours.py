"""Words that occur in like contexts, found by counting: stand-ins for synonyms that need no dictionary.

A word's vector is its positive pointwise mutual information with the words at each place beside it, and words are compared by the
cosine (Bullinaria and Levy 2007), with contexts' counts to the power 0.75 (Levy, Goldberg and Dagan 2015, Improving
distributional similarity, section 3.2), so that rare words do not stand out. Neighbours are of one kind rather than of one
meaning: "good" has "bad" among them.
"""

import collections
from collections.abc import Sequence

import numpy as np
from scipy import sparse

SMOOTHING = 0.75
ROWS = 1024  # of the V x V cosines that are computed at once


def neighbours(
    texts: Sequence[str], count: int = 5, window: int = 2, min_count: int = 5, least: float = 0.1
) -> dict[str, list[str]]:
    """{word: at most `count` words with the most similar contexts, the most similar first}; a word without any is left out.

    texts      words are separated by white space
    window     words on either side that are a word's context
    min_count  of a word in all texts; rarer ones have no neighbours, and are none
    least      the cosine of a neighbour

    >>> neighbours(["a cat sat", "a dog sat", "a cat ran", "a dog ran", "you run far"], min_count=2)["cat"]
    ['dog']
    """
    words = [text.split() for text in texts]
    counts = collections.Counter(word for row in words for word in row)
    vocabulary = sorted(word for word, n in counts.items() if n >= min_count)
    contexts = _contexts(words, {word: i for i, word in enumerate(vocabulary)}, window)
    if not contexts.nnz:
        return {}
    vectors = _ppmi(contexts)
    norms = np.sqrt(np.asarray(vectors.multiply(vectors).sum(1)))
    unit = sparse.csr_matrix(vectors.multiply(1 / np.maximum(norms, 1e-12)))
    near = {}
    for start in range(0, len(vocabulary), ROWS):
        for row, cosine in enumerate((unit[start : start + ROWS] @ unit.T).toarray(), start):
            cosine[row] = 0  # itself
            best = np.argsort(-cosine, kind="stable")[:count]
            if names := [vocabulary[i] for i in best if cosine[i] >= least]:
                near[vocabulary[row]] = names
    return near


def _contexts(words: Sequence[Sequence[str]], numbers: dict[str, int], window: int) -> sparse.csr_matrix:
    """How often each word stands at each place beside word i: f64[V, 2 * window * V]."""
    pairs: collections.Counter[tuple[int, int]] = collections.Counter()
    size = len(numbers)
    for row in words:
        ids = [numbers.get(word, -1) for word in row]
        for distance in range(1, window + 1):
            for a, b in zip(ids, ids[distance:], strict=False):
                if a >= 0 and b >= 0:
                    pairs[a, b + (2 * distance - 2) * size] += 1
                    pairs[b, a + (2 * distance - 1) * size] += 1
    rows, columns = np.array(list(pairs), np.int64).reshape(-1, 2).T
    values = np.array(list(pairs.values()), np.float64)
    return sparse.csr_matrix((values, (rows, columns)), (size, 2 * window * size))


def _ppmi(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """max(0, log p(word, context) / (p(word) q(context))), q the smoothed share of a context."""
    pairs = counts.tocoo()
    word = np.asarray(counts.sum(1)).ravel()
    context = np.asarray(counts.sum(0)).ravel() ** SMOOTHING
    expected = word[pairs.row] * context[pairs.col] / context.sum()
    values = np.maximum(np.log(pairs.data / expected), 0)
    return sparse.csr_matrix((values, (pairs.row, pairs.col)), counts.shape)

"""Neighbours of words, against the definition written out in dense arrays."""

import numpy as np
import pytest

from research.data.text.neighbours import neighbours

TEXTS = [
    "the cat sat on the mat", "the dog sat on the rug", "a cat ran to the dog", "a dog ran to the cat",
    "the mat is on the rug", "the rug is on the mat", "rare",
]  # fmt: skip


def dense(texts, count, window, min_count, least):
    """PPMI and cosines by loops over every pair of places."""
    words = [text.split() for text in texts]
    flat = [word for row in words for word in row]
    vocabulary = sorted({word for word in flat if flat.count(word) >= min_count})
    places = [d for d in range(-window, window + 1) if d]
    counts = np.zeros((len(vocabulary), len(places), len(vocabulary)))
    for row in words:
        for i, word in enumerate(row):
            for k, d in enumerate(places):
                if 0 <= i + d < len(row) and word in vocabulary and row[i + d] in vocabulary:
                    counts[vocabulary.index(word), k, vocabulary.index(row[i + d])] += 1
    counts = counts.reshape(len(vocabulary), -1)
    q = counts.sum(0) ** 0.75 / (counts.sum(0) ** 0.75).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        ppmi = np.nan_to_num(np.maximum(np.log(counts / (counts.sum(1, keepdims=True) * q)), 0))
    norms = np.linalg.norm(ppmi, axis=1, keepdims=True)
    cosines = ppmi @ ppmi.T / np.maximum(norms * norms.T, 1e-12)
    np.fill_diagonal(cosines, 0)
    best = np.argsort(-cosines, 1, kind="stable")[:, :count]
    near = {w: [vocabulary[j] for j in best[i] if cosines[i, j] >= least] for i, w in enumerate(vocabulary)}
    return {word: names for word, names in near.items() if names}


@pytest.mark.parametrize(("count", "window", "min_count", "least"), [(5, 2, 1, 0.1), (2, 1, 2, 0.3), (3, 3, 2, 0.0001)])
def test_they_are_the_definitions(count, window, min_count, least):
    ours = neighbours(TEXTS, count, window, min_count, least)
    assert ours == dense(TEXTS, count, window, min_count, least)
    assert "dog" in ours["cat"] and "cat" in ours["dog"] and "rare" not in ours


@pytest.mark.parametrize("texts", [[], [""], ["a b c"], ["alone"] * 9])
def test_there_may_be_none(texts):
    assert neighbours(texts) == {}

"""Scores of a ranking with one relevant item a query, as pure functions of host arrays."""

import numpy as np


def ranks(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """scores f[n, M] of M items, the relevant item's number i[n] -> its rank i64[n], from 1; a tie counts against it."""
    own = np.take_along_axis(scores, np.asarray(relevant)[:, None], 1)
    return (scores >= own).sum(1)


def recall(ranks: np.ndarray, k: int) -> float:
    """The share of queries whose relevant item is among the first k."""
    return float(np.mean(ranks <= k))


def reciprocal_rank(ranks: np.ndarray) -> float:
    """The mean of 1 / rank (MRR), over the whole ranking."""
    return float(np.mean(1 / ranks))


def report(ranks: np.ndarray, cuts: tuple[int, ...] = (1, 5, 20)) -> dict[str, float]:
    """{"recall_at_1", "recall_at_5", "recall_at_20", "mrr"}."""
    return {**{f"recall_at_{k}": recall(ranks, k) for k in cuts}, "mrr": reciprocal_rank(ranks)}

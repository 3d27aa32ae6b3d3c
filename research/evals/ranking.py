"""Metrics of rankings with one relevant item per query, as pure functions of host arrays."""

import numpy as np
from jaxtyping import Float, Int


def ranks(scores: Float[np.ndarray, "n M"], relevant: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Scores of M items, the index of the relevant one -> its rank, from 1; a tie counts against it."""
    own = np.take_along_axis(scores, np.asarray(relevant)[:, None], 1)
    return (scores >= own).sum(1)


def recall(ranks: Int[np.ndarray, " n"], k: int) -> float:
    """Share of queries, 0..1, whose relevant item has rank k or better."""
    return float(np.mean(ranks <= k))


def reciprocal_rank(ranks: Int[np.ndarray, " n"]) -> float:
    """Mean reciprocal rank (MRR), without a cut-off."""
    return float(np.mean(1 / ranks))


def report(ranks: Int[np.ndarray, " n"], cuts: tuple[int, ...] = (1, 5, 20)) -> dict[str, float]:
    """Ranks -> {"recall_at_1", "recall_at_5", "recall_at_20", "mrr"}, with the recalls at `cuts`."""
    return {**{f"recall_at_{k}": recall(ranks, k) for k in cuts}, "mrr": reciprocal_rank(ranks)}

import numpy as np
import pytest

from research.evals import ranking


def test_by_hand():
    """Ranks 1, 3 and 2; in the last a tie counts against the relevant item."""
    scores = np.array([[5.0, 1, 2], [5, 1, 2], [1, 4, 4]])
    ranks = ranking.ranks(scores, np.array([0, 1, 2]))
    assert ranks.tolist() == [1, 3, 2]
    assert ranking.recall(ranks, 1) == pytest.approx(1 / 3)
    assert ranking.recall(ranks, 2) == pytest.approx(2 / 3)
    assert ranking.reciprocal_rank(ranks) == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)
    want = {"recall_at_1": 1 / 3, "recall_at_5": 1.0, "recall_at_20": 1.0, "mrr": 11 / 18}
    assert ranking.report(ranks) == pytest.approx(want)

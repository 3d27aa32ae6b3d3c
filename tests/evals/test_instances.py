"""Objects against the true ones: by hand, and by brute force."""

import itertools
import math

import numpy as np
import pytest

from research.evals import instances


def of(predicted, true, least=0.5):
    return instances.match(instances.overlaps(np.array(predicted), np.array(true)), least)


def test_by_hand():
    """IoUs 3/4 and, of a merged pair, 2/5; a true object is missed and nothing invented."""
    true, predicted = [[1, 1, 1, 1, 0, 2, 2, 3, 3, 3]], [[1, 1, 1, 0, 0, 2, 2, 2, 2, 0]]
    found = of(predicted, true)
    assert (found.ious.tolist(), found.predicted, found.true) == ([0.75], 2, 3)
    assert instances.average_precision([found]) == pytest.approx(1 / (1 + 1 + 2))
    assert instances.panoptic_quality([found]) == pytest.approx({"pq": 0.75 * 2 / 5, "sq": 0.75, "rq": 2 / 5})
    assert of(predicted, true, 0.75).ious.size == 0  # above, not at
    assert sorted(of(predicted, true, 0.4).ious.tolist()) == pytest.approx([0.5, 0.75])


def test_below_a_half_as_many_pairs_as_can_be():
    """The best pair first, 1 with 1, would leave 2 and 2 alone; crosswise both are matched."""
    shared = np.array([[0, 0, 3], [0, 6, 4], [0, 4, 0]])
    assert instances.match(shared, 0.35).ious.tolist() == pytest.approx([6 / 14])
    assert sorted(instances.match(shared, 0.3).ious.tolist()) == pytest.approx([4 / 13, 4 / 10])


def test_above_a_half_a_partner_is_the_only_one():
    rng = np.random.default_rng(0)
    matched = 0
    for _ in range(50):
        true = np.kron(rng.integers(0, 4, (3, 3)), np.ones((3, 3), int))
        predicted = np.where(rng.random(true.shape) < 0.15, rng.integers(0, 4, true.shape), true)
        pairs = [
            (i, j, np.sum((predicted == i) & (true == j)) / np.sum((predicted == i) | (true == j)))
            for i, j in itertools.product(range(1, 4), range(1, 4))
            if (predicted == i).any() or (true == j).any()
        ]
        above = [pair for pair in pairs if pair[2] > 0.5]
        assert len({i for i, _, _ in above}) == len({j for _, j, _ in above}) == len(above)
        assert sorted(of(predicted, true).ious) == pytest.approx(sorted(pair[2] for pair in above))
        matched += len(above)
    assert matched > 50


def test_the_adapted_rand_error_is_that_of_all_pairs_of_pixels():
    rng = np.random.default_rng(1)
    true, predicted = rng.integers(0, 3, (2, 5, 6))
    kept = true > 0
    names = np.where(predicted > 0, predicted, 100 + np.arange(true.size).reshape(true.shape))[kept]  # ground: alone
    a, b = np.equal.outer(names, names), np.equal.outer(true[kept], true[kept])
    precision, recall = (a & b).sum() / a.sum(), (a & b).sum() / b.sum()
    error = instances.adapted_rand_error(instances.overlaps(predicted, true))
    assert error == pytest.approx(1 - 2 * precision * recall / (precision + recall))
    assert instances.adapted_rand_error(instances.overlaps(true, true)) == 0


def test_nothing_to_find():
    empty, one = np.zeros((2, 2), int), np.ones((2, 2), int)
    assert math.isnan(instances.average_precision([of(empty, empty)]))
    assert math.isnan(instances.panoptic_quality([of(empty, empty)])["pq"])
    assert math.isnan(instances.adapted_rand_error(instances.overlaps(one, empty)))
    assert instances.panoptic_quality([of(one, empty)]) == {"pq": 0, "sq": 0, "rq": 0}
    assert instances.adapted_rand_error(instances.overlaps(empty, one)) == pytest.approx(1 - 2 * 4 / (4 + 16))

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from research.evals.spans import best_spans


def brute(start, end, longest, k):
    """Every span in turn."""
    L = len(start)
    spans = [(start[i] + end[j], i, j) for i, j in itertools.product(range(1, L), repeat=2) if i <= j < i + longest]
    return sorted(spans, key=lambda s: (-s[0], s[1], s[2]))[:k]


@pytest.mark.parametrize("longest", [1, 3, 7, 40])
def test_equal_to_all_spans_in_turn(longest):
    rng = np.random.default_rng(longest)
    start, end = rng.normal(size=(2, 5, 8)).astype(np.float32)
    scores, first, last = map(np.asarray, best_spans(jnp.asarray(start), jnp.asarray(end), longest, k=6))
    for row in range(5):
        want = brute(start[row], end[row], longest, 6)
        np.testing.assert_allclose(scores[row, : len(want)], [w[0] for w in want], rtol=1e-6)
        assert list(zip(first[row], last[row], strict=True))[: len(want)] == [w[1:] for w in want]


def test_ties_and_what_is_shut_out():
    """Place 0 is in no span; places of -1e30 come last; what is not there scores -1e30 or below."""
    start = jnp.array([[9.0, 1.0, -1e30, 1.0]])
    end = jnp.array([[9.0, 0.0, -1e30, 0.0]])
    scores, first, last = map(np.asarray, best_spans(start, end, 3, k=12))
    assert scores[0, :3].tolist() == [1.0, 1.0, 1.0]
    assert list(zip(first[0], last[0], strict=True))[:3] == [(1, 1), (1, 3), (3, 3)]
    assert (scores[0, 3:] <= -1e29).all() and np.isfinite(scores).all() and scores.shape == (1, 12)

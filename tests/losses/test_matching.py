"""The least cost of SciPy's linear_sum_assignment, on thousands of random matrices; ties, rectangles, rows that fill up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from research.losses.matching import linear_assignment

solve = jax.jit(jax.vmap(linear_assignment))


def costs(kind, shape):
    rng = np.random.default_rng(0)
    if kind == "ties":
        return rng.integers(0, 4, shape).astype(np.float32)
    return (rng.normal(size=shape) * (1_000 if kind == "large" else 1)).astype(np.float32)


@pytest.mark.parametrize("sizes", [(4, 9), (9, 4), (20, 30)], ids=str)
def test_the_total_cost_is_scipys(sizes):
    """Of 1,800 matrices of a size; half of them have rows that fill up."""
    for kind in ("normal", "ties", "large"):
        cost = costs(kind, (600, *sizes))
        real = np.random.default_rng(1).random((600, sizes[0])) < np.repeat([0.5, 1.0], 300)[:, None]
        columns = np.asarray(solve(cost, real))
        for each, mine, rows in zip(cost.astype(np.float64), columns, real, strict=True):
            best = each[rows][linear_sum_assignment(each[rows])]
            matched = mine >= 0
            assert not (matched & ~rows).any()
            assert len(set(mine[matched])) == matched.sum() == len(best)
            total = each[matched, mine[matched]].sum()
            assert total == pytest.approx(best.sum(), rel=1e-6, abs=0 if kind == "ties" else 1e-5)


def test_equal_costs_are_matched_alike_wherever_they_stand_in_a_batch():
    cost, order = costs("ties", (600, 4, 9)), np.random.default_rng(2).permutation(600)
    real = jnp.ones((600, 4), bool)
    np.testing.assert_array_equal(np.asarray(solve(cost, real))[order], solve(cost[order], real))


def test_it_ends_on_numbers_that_are_none():
    """Rows of NaN and of infinity are matched last; without a number, or without a real row, it ends, too."""
    some = [[jnp.nan, jnp.nan, jnp.nan], [1.0, jnp.inf, 5.0], [2.0, 9.0, jnp.inf]]
    cost = jnp.array([some, np.full((3, 3), np.nan), np.zeros((3, 3))])
    columns = solve(cost, jnp.array([[True] * 3, [True] * 3, [False] * 3]))
    assert columns[0].tolist() == [1, 2, 0]
    assert sorted(columns[1].tolist()) == [0, 1, 2]
    assert columns[2].tolist() == [-1, -1, -1]
    assert linear_assignment(jnp.zeros((0, 3))).shape == (0,)


def test_no_gradient():
    def total(cost):
        columns = solve(cost[None], jnp.ones((1, 2), bool))[0]
        return (columns * cost[0]).sum()

    gradient = jax.grad(total)(jnp.array([[1.0, 2.0], [3.0, 5.0]]))
    assert gradient.tolist() == [[1, 0], [0, 0]]  # the columns, 1 and 0; nothing of how they are chosen

"""Learnt weights of tasks, against the distributions that they come from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from research.losses.multi_task import uncertainty


@pytest.mark.parametrize("s", [-1.3, 0.0, 2.0])
@pytest.mark.parametrize(
    "kind, distribution, scale, left_out",
    [
        ("squared", stats.norm, lambda s: np.exp(s / 2), np.log(2 * np.pi) / 2),
        ("absolute", stats.laplace, lambda s: np.exp(s / 2), np.log(2)),
    ],
)
def test_a_regressions_objective_is_its_likelihood(kind, distribution, scale, left_out, s):
    error = 0.7
    factor, constant = uncertainty(kind, jnp.float32(s))
    loss = error**2 if kind == "squared" else error
    want = -distribution.logpdf(error, scale=scale(s)) - left_out
    assert float(factor * loss + constant) == pytest.approx(want, rel=1e-5)


def test_a_classifications_factor_is_the_inverse_variance():
    factor, constant = uncertainty("cross_entropy", jnp.log(4.0))
    assert (float(factor), float(constant)) == (pytest.approx(0.25), pytest.approx(np.log(2)))


@pytest.mark.parametrize("kind, best", [("squared", 0.3), ("absolute", 0.3**2), ("cross_entropy", 0.6)])
def test_the_best_variance_follows_the_loss(kind, best):
    """Of loss 0.3 by setting the derivative to 0: exp(s) = L, L^2 and 2 L."""

    def total(s):
        factor, constant = uncertainty(kind, s)
        return factor * 0.3 + constant

    assert float(jax.grad(total)(jnp.log(best))) == pytest.approx(0, abs=1e-6)

"""Terms of the evidence lower bound, against torch's distributions and by quadrature."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from research.losses import variational

RNG = np.random.default_rng(0)


def test_densities_equal_scipy():
    z, mean, log_std = RNG.normal(size=(3, 4, 5)).astype(np.float32)
    want = stats.norm(mean, np.exp(log_std)).logpdf(z).sum(-1)
    np.testing.assert_allclose(variational.gaussian_log_density(z, mean, log_std), want, rtol=1e-5)
    logits, x = RNG.normal(size=(2, 4, 6)).astype(np.float32)
    x = (x > 0).astype(np.float32)
    want = stats.bernoulli(1 / (1 + np.exp(-logits))).logpmf(x.astype(int)).sum(-1)
    np.testing.assert_allclose(variational.bernoulli_log_likelihood(logits, x), want, rtol=1e-5)


def test_a_weight_is_the_joint_over_the_proposal():
    z, mean, log_std = RNG.normal(size=(3, 4, 5)).astype(np.float32)
    log_p = RNG.normal(size=4).astype(np.float32)
    want = log_p + stats.norm.logpdf(z).sum(-1) - stats.norm(mean, np.exp(log_std)).logpdf(z).sum(-1)
    np.testing.assert_allclose(variational.log_weights(log_p, z, mean, log_std), want, rtol=1e-4, atol=1e-4)


def test_large_logits_do_not_overflow():
    got = variational.bernoulli_log_likelihood(jnp.array([200.0, -200.0]), jnp.array([1.0, 0.0]))
    assert float(got) == 0.0


def test_the_divergence_equals_torch():
    torch = pytest.importorskip("torch")
    mean, log_std = RNG.normal(size=(2, 4, 5)).astype(np.float32)
    q = torch.distributions.Normal(torch.tensor(mean), torch.tensor(np.exp(log_std)))
    want = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).numpy()
    np.testing.assert_allclose(variational.kl_to_standard_normal(mean, log_std), want, rtol=1e-4, atol=1e-6)


def test_more_weights_bound_more_tightly():
    """Burda et al. 2016, theorem 1, for log p(x) = log of the mean of exp(N(0, 1)): 1/2."""
    log_weights = RNG.normal(size=(200_000,)).astype(np.float32)
    bounds = [float(variational.importance_bound(log_weights.reshape(-1, k)).mean()) for k in (1, 5, 50)]
    assert bounds[0] < bounds[1] < bounds[2] < 0.5
    assert bounds[0] == pytest.approx(0.0, abs=0.01) and bounds[2] == pytest.approx(0.5, abs=0.03)

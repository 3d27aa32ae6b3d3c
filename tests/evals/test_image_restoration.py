"""PSNR by hand, SSIM against SciPy's Gaussian filter, Laplace's equation where its solution is known."""

import jax
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from research.evals import image_restoration as evals
from research.util.errors import UserError


def test_psnr_by_hand():
    assert evals.psnr(1.0) == 0 and evals.psnr(1e-4) == pytest.approx(40) and evals.psnr(0.0) == float("inf")


def reference(a, b):
    """Wang 2004 by SciPy's filter, a Gaussian cut off at five pixels, over the places that it does not pad."""

    def blur(x):
        return gaussian_filter(x, 1.5, radius=5)[5:-5, 5:-5]

    mean_a, mean_b, C1, C2 = blur(a), blur(b), 1e-4, 9e-4
    variances = blur(a * a) - mean_a**2 + blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return (luminance * (2 * covariance + C2) / (variances + C2)).mean()


def test_ssim_is_wangs():
    rng = np.random.default_rng(0)
    a = gaussian_filter(rng.random((3, 17, 20, 2)), (0, 2, 2, 0)) * 2 - 0.5
    b = np.clip(a + 0.1 * rng.normal(size=a.shape), 0, 1)
    expected = [np.mean([reference(x[..., c], y[..., c]) for c in range(2)]) for x, y in zip(a, b, strict=True)]
    compute = jax.jit(evals.ssim)
    np.testing.assert_allclose(compute(a.astype(np.float32), b.astype(np.float32)), expected, atol=2e-5)
    np.testing.assert_allclose(compute(b.astype(np.float32), b.astype(np.float32)), 1, atol=1e-5)
    with pytest.raises(UserError, match="11 x 11 pixels or more; these are 8 x 20"):
        evals.ssim(a[:, :8], b[:, :8])


def test_the_harmonic_fill_is_laplaces():
    """A plane is harmonic: it is restored exactly. Inside a constant border there is that constant."""
    y, x = np.mgrid[:7, :9].astype(np.float64)
    planes = np.stack([0.1 + 0.05 * y + 0.03 * x, 0.9 - 0.02 * y])[..., None]
    known = np.ones((7, 9), bool)
    known[2:5, 3:8] = False
    hidden = np.where(known[..., None], planes, 9)
    np.testing.assert_allclose(evals.harmonic_fill(hidden, known), planes, atol=1e-9)
    known[:, 4:] = False  # to the edge: no slope across it
    np.testing.assert_allclose(evals.harmonic_fill(np.full((1, 7, 9, 1), 0.4), known), 0.4, atol=1e-9)

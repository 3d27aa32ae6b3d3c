"""RoI align against bilinear interpolation sample by sample, as torchvision's kernel is written, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.detection.roi_align import roi_align

BOXES = np.array([[[0.5, 1.25, 6.5, 7.75], [-4, -3, 2, 2], [5, 5, 30, 9], [3, 3, 3, 3]]], np.float32)


def bilinear(features, y, x):
    Y, X, C = features.shape
    if y < -1 or y > Y or x < -1 or x > X:
        return np.zeros(C)
    y, x = max(y, 0), max(x, 0)
    y0, x0 = int(y), int(x)
    if y0 >= Y - 1:
        y0 = y1 = Y - 1
        y = y0
    else:
        y1 = y0 + 1
    if x0 >= X - 1:
        x0 = x1 = X - 1
        x = x0
    else:
        x1 = x0 + 1
    b, a = y - y0, x - x0
    return (
        (1 - b) * ((1 - a) * features[y0, x0] + a * features[y0, x1])
        + b * ((1 - a) * features[y1, x0] + a * features[y1, x1])
    )  # fmt: skip


def naive(features, box, bins):
    x1, y1, x2, y2 = (float(v) - 0.5 for v in box)
    out = np.zeros((bins, bins, features.shape[-1]))
    for i, j in np.ndindex(bins, bins):
        for k, m in np.ndindex(2, 2):
            y = y1 + (i + (k + 0.5) / 2) * (y2 - y1) / bins
            x = x1 + (j + (m + 0.5) / 2) * (x2 - x1) / bins
            out[i, j] += bilinear(features, y, x) / 4
    return out


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(1, 8, 10, 3)).astype(np.float32)


def test_values(features):
    """A box inside, one across each corner, one of no area."""
    got = roi_align(jnp.asarray(features), jnp.asarray(BOXES), 3)
    for r in range(4):
        np.testing.assert_allclose(got[0, r], naive(features[0].astype(np.float64), BOXES[0, r], 3), atol=1e-5)


def test_a_plane_is_sampled_exactly():
    """Of f(y, x) = 2 y - x at the cells' centres the mean over a bin is its value at the bin's centre."""
    y, x = np.mgrid[:8, :10] + 0.5
    plane = jnp.asarray((2 * y - x)[None, ..., None], jnp.float32)
    got = roi_align(plane, jnp.array([[[2.0, 1, 8, 7]]]), 2)
    np.testing.assert_allclose(
        got[0, 0, ..., 0], [[2 * 2.5 - 3.5, 2 * 2.5 - 6.5], [2 * 5.5 - 3.5, 2 * 5.5 - 6.5]], atol=1e-5
    )


def test_the_gradient_has_no_scatter_and_is_the_weights(features):
    """The output is linear in the features: the gradient of its product with g is the transpose of `naive` at g."""
    g = np.random.default_rng(1).normal(size=(4, 2, 2)).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda f: (roi_align(f, jnp.asarray(BOXES), 2)[0, ..., 0] * g).sum()))
    one = jnp.asarray(features[..., :1])
    expected = np.zeros((8, 10))
    for y, x in np.ndindex(8, 10):
        basis = np.zeros((8, 10, 1))
        basis[y, x] = 1
        expected[y, x] = sum((naive(basis, BOXES[0, r], 2)[..., 0] * g[r]).sum() for r in range(4))
    np.testing.assert_allclose(gradient(one)[0, ..., 0], expected, atol=1e-5)
    text = gradient.lower(one).as_text()
    assert "dot_general" in text
    assert "scatter" not in text

"""Gram matrices and the terms of style transfer by hand and against NumPy."""

import numpy as np
import pytest

from research.losses import style


def test_gram_is_numpys_covariance_about_zero():
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    for one, found in zip(x, style.gram(x), strict=True):
        flat = one.reshape(-1, 3)
        np.testing.assert_allclose(found, flat.T @ flat / 35, rtol=1e-5)


def test_style_does_not_know_places_and_content_does():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 4, 4, 3)).astype(np.float32)
    moved = rng.permutation(x.reshape(16, 3)).reshape(x.shape)
    assert style.style(moved, style.gram(x)[0])[0] == pytest.approx(0, abs=1e-9)
    assert style.content(moved, x)[0] > 0.5 and style.content(x, x)[0] == 0


def test_terms_are_relative_to_the_target():
    """Features of twice the size: content (2 - 1)^2, style (4 - 1)^2; the network's own scale changes neither."""
    x = np.random.default_rng(1).normal(size=(1, 3, 3, 2)).astype(np.float32)
    for scale in (1.0, 50.0):
        target = np.float32(scale) * x
        assert style.content(2 * target, target)[0] == pytest.approx(1, rel=1e-5)
        assert style.style(2 * target, style.gram(target)[0])[0] == pytest.approx(9, rel=1e-5)


def test_total_variation_by_hand():
    """Down 1 and 3, squared, over two places, and right 2 and 0 over two."""
    image = np.array([[0.0, 2.0], [1.0, -1.0]]).reshape(1, 2, 2, 1)
    assert style.total_variation(image)[0] == pytest.approx((1 + 9) / 2 + (4 + 4) / 2)
    assert style.total_variation(np.full((1, 4, 5, 3), 0.7))[0] == 0

"""Border weights: a case by hand, and every pixel by the equation as it stands."""

import numpy as np
import pytest
from scipy.ndimage import label

from research.data.images.border_weights import border_weights


def test_a_gap_of_three_pixels_by_hand():
    """1 0 0 0 1: the distances to the two objects add up to 4 everywhere."""
    got = border_weights(np.array([[1, 0, 0, 0, 1]]), w0=10, sigma=2)
    assert got[0].tolist() == pytest.approx([10 * np.exp(-16 / 8)] * 5)


def test_it_is_the_equation():
    labels = (np.random.default_rng(0).random((20, 24)) < 0.15).astype(np.int32)
    objects, count = label(labels)
    y, x = np.mgrid[:20, :24]
    to_each = [
        np.sqrt(((y[..., None] - rows) ** 2 + (x[..., None] - columns) ** 2).min(-1))
        for rows, columns in (np.nonzero(objects == number) for number in range(1, count + 1))
    ]
    d1, d2 = np.sort(to_each, axis=0)[:2]
    np.testing.assert_allclose(border_weights(labels, 10, 5), 10 * np.exp(-((d1 + d2) ** 2) / 50), atol=1e-5)


def test_one_object_has_no_border():
    assert (border_weights(np.array([[0, 1, 1], [0, 0, 255]])) == 0).all()

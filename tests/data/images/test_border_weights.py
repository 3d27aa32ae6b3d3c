"""Border weights: a case by hand, and every pixel by the equation as it stands."""

import numpy as np
import pytest
from scipy.ndimage import label

from research.data.images.border_weights import border_weights, regions


def test_a_gap_of_three_pixels_by_hand():
    """1 0 0 0 3: the distances to the two objects add up to 4 everywhere."""
    got = border_weights(np.array([[1, 0, 0, 0, 3]]), w0=10, sigma=2)
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
    np.testing.assert_allclose(border_weights(regions(labels), 10, 5), 10 * np.exp(-((d1 + d2) ** 2) / 50), atol=1e-5)


def test_one_object_has_no_border():
    assert (border_weights(regions(np.array([[0, 1, 1], [0, 0, 255]]))) == 0).all()


def test_objects_that_touch_have_the_line_between_them():
    """1 1 2 2: the distances are 0 and 2, 0 and 1, and so back again."""
    got = border_weights(np.array([[1, 1, 2, 2]]), w0=10, sigma=1)
    assert got[0].tolist() == pytest.approx([10 * np.exp(-2), 10 * np.exp(-0.5)] + [10 * np.exp(-0.5), 10 * np.exp(-2)])

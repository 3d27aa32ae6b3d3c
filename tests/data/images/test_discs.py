"""Discs: a function of the generator, discs of the sizes said, as bright as each other, many of which touch."""

import numpy as np
from scipy import ndimage

from research.data.images import discs


def test_discs():
    picture, numbers = discs.draw(np.random.default_rng(0), 96)
    again = discs.draw(np.random.default_rng(0), 96)
    np.testing.assert_array_equal(picture, again[0])
    np.testing.assert_array_equal(numbers, again[1])
    count = int(numbers.max())
    assert set(np.unique(numbers)) == set(range(count + 1)) and ndimage.label(numbers)[1] < count  # some touch
    areas, boxes = np.bincount(numbers.ravel())[1:], ndimage.find_objects(numbers.astype(int))
    sides = np.array([[side.stop - side.start for side in box] for box in boxes])
    assert areas.max() < np.pi * (discs.RADII[1] + 1) ** 2 and sides.max() <= 2 * discs.RADII[1] + 1
    bright = picture / 255
    assert abs(bright[numbers > 0].mean() - bright[numbers == 0].mean()) > 0.2
    means = ndimage.mean(bright, numbers, np.flatnonzero(areas > 60) + 1)
    assert np.ptp(means) < 0.2

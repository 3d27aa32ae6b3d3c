import numpy as np
import pytest

from research.data.images import labelled, usps


@pytest.mark.data
def test_it_is_the_usual_split():
    """Counts of each digit as published with the set, and 1-nearest-neighbour's error."""
    (x, y), (test_x, test_y) = usps.load("train"), usps.load("test")
    assert x.shape == (7291, 16, 16, 1) and x.min() == 0 and x.max() == 1
    assert np.bincount(y).tolist() == [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
    assert np.bincount(test_y).tolist() == [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
    flat, test = x.reshape(-1, 256), test_x.reshape(-1, 256)
    nearest = (np.square(flat).sum(1) - 2 * test @ flat.T).argmin(1)
    assert round(100 * float((y[nearest] != test_y).mean()), 2) == 5.63


@pytest.mark.data
def test_a_tenth_of_each_class_is_for_validation():
    images = labelled.load({"source": "usps"})
    assert (len(images.train), len(images.valid), len(images.test)) == (6562, 729, 2007)
    # 0.1 of each class, rounded: 119, 101 (100.5), 73, 66, 65, 56, 66, 65 (64.5), 54, 64.
    assert images.shape == (16, 16, 1) and np.bincount(images.valid.labels())[0] == 119
    assert labelled.load({"source": "usps", "valid_fraction": 0.0}).valid is None

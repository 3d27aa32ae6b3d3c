"""The distance of features by hand, as SciPy's cosine distance, and in a region."""

import numpy as np
import pytest
from scipy.spatial.distance import cosine

from research.evals.feature_distance import feature_distance


def test_features_are_compared_by_their_direction_alone():
    """At 60 degrees the squared difference is 2 - 2 cos 60 = 1, at 180 it is 4; lengths do not matter."""
    a = np.full((3, 1, 1, 2), [3.0, 0.0])
    b = np.array([[0.1, 0.1 * 3**0.5], [-7.0, 0.0], [5.0, 0.0]]).reshape(3, 1, 1, 2)
    found = feature_distance([a] * 2, [b] * 2, np.ones((3, 8, 8)))
    np.testing.assert_allclose(found, 2 * np.array([1.0, 4.0, 0.0]), atol=1e-6)


def test_places_outside_the_region_do_not_count():
    """Features of half the picture's size; the left half of the picture is the region, the right half differs."""
    a, b = np.ones((1, 4, 4, 1)), np.ones((1, 4, 4, 1))
    b[:, :, 2:] = -1
    region = np.zeros((1, 4, 4))
    region[:, :, :2] = 1
    assert feature_distance([a], [b], region)[0] == 0 and feature_distance([a], [b], 1 - region)[0] == 4
    assert feature_distance([a], [b], np.ones((1, 8, 8)))[0] == pytest.approx(2)
    assert feature_distance([a], [b], np.full((1, 8, 8), 0.25))[0] == pytest.approx(2)  # weights are relative


def test_it_is_scipys_cosine_distance_twice():
    a, b = np.random.default_rng(0).normal(size=(2, 3, 5, 7, 6)).astype(np.float32)
    found = feature_distance([a], [b], np.ones((3, 5, 7)))
    pairs = [
        [2 * cosine(*each) for each in zip(x.reshape(-1, 6), y.reshape(-1, 6), strict=True)]
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(found, np.mean(pairs, 1), rtol=1e-5)


def test_a_place_without_features_has_no_direction():
    zero, one = np.zeros((1, 1, 1, 3)), np.ones((1, 1, 1, 3))
    assert np.isfinite(feature_distance([zero], [one], np.ones((1, 2, 2))))[0]

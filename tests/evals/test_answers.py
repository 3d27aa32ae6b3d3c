import math

import numpy as np
import pytest

from research.evals import answers


def test_confidence_by_hand():
    scores = np.log([6.0, 3.0])
    np.testing.assert_allclose(answers.confidence(scores, 1.0, null=False), [2 / 3, 1 / 3])
    np.testing.assert_allclose(answers.confidence(scores, 1.0, null=True), [0.6, 0.3])  # and 0.1 for no answer
    np.testing.assert_allclose(answers.confidence(np.log([4.0]), 2.0, null=True), [2 / 3])  # e^(ln 4 / 2) = 2
    assert answers.confidence(np.array([-1e4]), 1.0, null=True)[0] == 0


def test_the_temperature_makes_confidence_what_it_says():
    """Scores three times too great for how often they are right: the temperature found is about 3."""
    rng = np.random.default_rng(0)
    true = rng.normal(scale=2, size=4000)
    right = rng.random(4000) < 1 / (1 + np.exp(-true))
    found = answers.fit_temperature([np.array([3 * s]) for s in true], right, null=True)
    assert found == pytest.approx(3, rel=0.1)


def test_curve_and_threshold_by_hand():
    confidence, right = np.array([0.9, 0.5, 0.7, 0.7, 0.2]), np.array([True, False, True, False, True])
    curve = answers.curve(confidence, right)
    np.testing.assert_allclose(curve.threshold, [0.9, 0.7, 0.5, 0.2])
    np.testing.assert_allclose(curve.coverage, [0.2, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(curve.accuracy, [1, 2 / 3, 2 / 4, 3 / 5])
    assert answers.choose_threshold(curve, 0.66) == 0.7
    assert answers.choose_threshold(curve, 0.6) == 0.2  # the most answered, though 0.5 falls short
    assert answers.choose_threshold(curve, 0.99) == 0.9
    none = answers.curve(confidence[1:], right[1:])  # right: 1 of 2, 1 of 3, 2 of 4
    assert answers.choose_threshold(none, 0.99) == 0.2 and math.isclose(none.accuracy.max(), 0.5)

"""Overlaps and losses by hand, and the assignment of two boxes to a few points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.losses import boxes

A = jnp.array([0.0, 0, 2, 2])


def test_overlaps_by_hand():
    """A moved by 1: 2 shared of 6, enclosed by 3 x 2 = 6. Beside it at a distance of 2: nothing of 8, enclosed by 6 x 2 = 12."""
    b, far = jnp.array([1.0, 0, 3, 2]), jnp.array([4.0, 0, 6, 2])
    assert float(boxes.iou(A, b)) == pytest.approx(1 / 3, abs=1e-6)
    assert float(boxes.giou(A, b)) == pytest.approx(1 / 3, abs=1e-6)
    assert float(boxes.iou(A, far)) == 0
    assert float(boxes.giou(A, far)) == pytest.approx(-4 / 12, abs=1e-6)


def test_complete_iou_by_hand():
    """Equal aspects: the centres are 1 apart, the diagonal squared is 13. Of one centre, 2 x 2 in 4 x 2: aspects alone differ."""
    assert float(boxes.ciou(A, jnp.array([1.0, 0, 3, 2]))) == pytest.approx(1 / 3 - 1 / 13, abs=1e-6)
    v = 4 / np.pi**2 * (np.arctan(2) - np.arctan(1)) ** 2
    expected = 0.5 - v * v / (1 - 0.5 + v)
    assert float(boxes.ciou(A, jnp.array([-1.0, 0, 3, 2]))) == pytest.approx(expected, abs=1e-5)
    assert float(boxes.ciou(A, A)) == pytest.approx(1, abs=1e-5)


def test_complete_iou_moves_a_box_that_does_not_touch():
    gradient = jax.grad(lambda a: boxes.ciou(a, jnp.array([4.0, 0, 6, 2])))(A)
    assert float(gradient[0] + gradient[2]) > 0  # to the right raises it
    assert np.isfinite(jax.grad(lambda a: boxes.ciou(a, A))(jnp.zeros(4))).all()  # of no area


def test_distribution_focal_by_hand():
    """Target 1.25 between 1 (three quarters) and 2 (a quarter), of equal logits over 4: log 4. Beyond the last it is the last."""
    assert float(boxes.distribution_focal(jnp.zeros(4), jnp.array(1.25))) == pytest.approx(np.log(4), abs=1e-6)
    logits = jnp.log(jnp.array([0.1, 0.6, 0.2, 0.1]))
    expected = -(0.75 * np.log(0.6) + 0.25 * np.log(0.2))
    assert float(boxes.distribution_focal(logits, jnp.array(1.25))) == pytest.approx(expected, abs=1e-6)
    assert float(boxes.distribution_focal(logits, jnp.array(7.0))) == pytest.approx(-np.log(0.1), abs=1e-6)


def test_quality_focal_by_hand():
    """Score 1/2, target 1: (1/2)^2 log 2; gamma 0 is log 2; at the target it is 0, with a gradient of 0."""
    zero = jnp.array(0.0)
    assert float(boxes.quality_focal(zero, jnp.array(1.0), 2.0)) == pytest.approx(np.log(2) / 4)
    assert float(boxes.quality_focal(zero, jnp.array(1.0), 0.0)) == pytest.approx(np.log(2))
    assert float(boxes.quality_focal(zero, jnp.array(0.5), 2.0)) == 0
    assert float(jax.grad(boxes.quality_focal)(zero, jnp.array(0.5), 2.0)) == 0


def test_smooth_l1_by_hand():
    """Knee 1: 0.5 is 1/8, 3 is 2.5. Knee 1/9: 1/18 is a quarter of 1/18, 1 is 17/18."""
    np.testing.assert_allclose(boxes.smooth_l1(jnp.array([0.5, -3.0]), 1.0), [0.125, 2.5])
    np.testing.assert_allclose(boxes.smooth_l1(jnp.array([1 / 18, -1.0]), 1 / 9), [1 / 72, 17 / 18], rtol=1e-5)


# Four points in a row, at x = 1, 3, 5, 7; y = 1. Box 0 is 0..4, box 1 is 2..8: point 1 (x = 3) is inside both.
POINTS = jnp.array([[1.0, 1], [3, 1], [5, 1], [7, 1]])
BOXES = jnp.array([[[0.0, 0, 4, 2], [2, 0, 8, 2], [0, 0, 0, 0]]])
LABELS, REAL = jnp.array([[0, 1, 0]]), jnp.array([[1.0, 1, 0]])


def assign(predicted, scores, **options):
    return boxes.task_aligned(scores, jnp.asarray(predicted)[None], POINTS, BOXES, LABELS, REAL, **options)


def test_assignment_by_hand():
    """Predictions: point 0's is box 0; 1's is half of it and a third of box 1; 2's is box 1; 3's is away from both.

    Alignment with alpha = beta = 1 and scores of a half: box 0: points 0 and 1: 1/2, 1/4. Box 1: points 1, 2, 3: 1/6, 1/2, 0.
    Scaled to the greatest IoU, 1: box 0: 1, 1/2; box 1: point 2: 1, point 3: 0. Point 1 overlaps box 0 more, so it is box 0's.
    """
    predicted = [[0.0, 0, 4, 2], [2, 0, 4, 2], [2, 0, 8, 2], [20, 0, 22, 2]]
    out = assign(predicted, jnp.full((1, 4, 2), 0.5), top=3, alpha=1.0, beta=1.0)
    np.testing.assert_allclose(out.scores[0], [[1, 0], [0.5, 0], [0, 1], [0, 0]], atol=1e-5)
    assert out.positive.tolist() == [[True, True, True, True]]
    np.testing.assert_array_equal(out.boxes[0], BOXES[0, jnp.array([0, 0, 1, 1])])


def test_only_the_best_points_are_positive():
    predicted = [[0.0, 0, 4, 2], [2, 0, 4, 2], [2, 0, 8, 2], [20, 0, 22, 2]]
    out = assign(predicted, jnp.full((1, 4, 2), 0.5), top=1, alpha=1.0, beta=1.0)
    assert out.positive.tolist() == [[True, False, True, False]]
    assert float(out.scores.sum()) == pytest.approx(2, abs=1e-5)


def test_a_higher_score_wins_among_equal_overlaps():
    predicted = [[0.0, 0, 4, 2], [0, 0, 4, 2], [2, 0, 8, 2], [2, 0, 8, 2]]
    scores = jnp.array([[[0.2, 0.5], [0.9, 0.5], [0.5, 0.9], [0.5, 0.2]]])
    assert assign(predicted, scores, top=1).positive.tolist() == [[False, True, True, False]]


def test_no_box_and_no_gradient():
    predicted, scores = jnp.zeros((1, 4, 4)), jnp.full((1, 4, 2), 0.5)
    out = boxes.task_aligned(scores, predicted, POINTS, BOXES, LABELS, jnp.zeros((1, 3)))
    assert not out.positive.any()
    assert not out.scores.any()
    gradient = jax.grad(
        lambda s: boxes.task_aligned(s, predicted + POINTS.max(), POINTS, BOXES, LABELS, REAL).scores.sum()
    )(scores)
    assert not gradient.any()

"""DETR: the loss by SciPy and loops over pictures, positions that are nearest to themselves, predictions on the canvas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.special import log_softmax, softmax

from experiments.detection import detr

OPTIONS = detr.Loss(l1=5.0, giou=2.0, none=0.1)


def giou(a, b):
    """Of two boxes (x, y, width, height)."""
    (ax1, ay1), (ax2, ay2) = a[:2] - a[2:] / 2, a[:2] + a[2:] / 2
    (bx1, by1), (bx2, by2) = b[:2] - b[2:] / 2, b[:2] + b[2:] / 2
    common = max(min(ax2, bx2) - max(ax1, bx1), 0) * max(min(ay2, by2) - max(ay1, by1), 0)
    union = a[2] * a[3] + b[2] * b[3] - common
    enclosing = (max(ax2, bx2) - min(ax1, bx1)) * (max(ay2, by2) - min(ay1, by1))
    return common / union - (enclosing - union) / enclosing


def test_the_sums_are_those_of_the_papers_formulas():
    """Equations 1 and 2 and appendix A.2, picture by picture: 5 queries, 3 classes, of 4 boxes some that fill up."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 5, 4)).astype(np.float32)
    boxes, true = (rng.uniform(0.1, 0.5, (6, n, 4)).astype(np.float32) for n in (5, 4))
    labels, counts = rng.integers(0, 3, (6, 4)), [0, 1, 2, 3, 4, 4]
    real = (np.arange(4) < np.array(counts)[:, None]).astype(np.float32)
    got = jax.jit(lambda *args: detr.layer_sums(*args, OPTIONS))(logits, boxes, true, labels, real)
    expected = {"classes": [0.0, 0.0], "l1": [0.0, 14.0], "giou": [0.0, 14.0]}
    for b, n in enumerate(counts):
        cost = np.array(
            [
                [
                    -softmax(logits[b, q])[labels[b, m]]
                    + 5 * np.abs(boxes[b, q] - true[b, m]).sum()
                    - 2 * giou(boxes[b, q], true[b, m])
                    for q in range(5)
                ]
                for m in range(n)
            ]
        ).reshape(n, 5)
        target = np.full(5, 3)
        for m, q in zip(*linear_sum_assignment(cost), strict=True):
            target[q] = labels[b, m]
            expected["l1"][0] += np.abs(boxes[b, q] - true[b, m]).sum()
            expected["giou"][0] += 1 - giou(boxes[b, q], true[b, m])
        weights = np.where(target == 3, 0.1, 1.0)
        expected["classes"][0] -= (weights * log_softmax(logits[b], -1)[np.arange(5), target]).sum()
        expected["classes"][1] += weights.sum()
    for name, pair in expected.items():
        assert [float(x) for x in got[name]] == pytest.approx(pair, rel=1e-5), name


def test_a_position_is_nearest_to_itself():
    grid = np.stack(np.mgrid[:6, :6], -1).reshape(-1, 2) + 0.5
    places = detr.sines(jnp.asarray(grid), 32)
    scores = np.asarray(places @ places.T)
    assert (scores.argmax(1) == np.arange(36)).all()
    np.testing.assert_allclose(np.diag(scores), 16, rtol=1e-5)  # a sine squared and a cosine squared are 1


def test_predictions_are_on_the_canvas_best_first():
    """Two queries on a canvas of 8 x 16; the class none is never a label."""

    class Fixed:
        queries = 2

        def apply(self, variables, image):
            logits = jnp.log(jnp.array([[0.2, 0.1, 0.7], [0.3, 0.6, 0.1]]))
            return logits[None, None], jnp.array([[0.5, 0.5, 1.0, 0.5], [0.25, 0.5, 0.5, 1.0]])[None, None]

    found = detr.predict(Fixed(), {}, jnp.zeros((1, 8, 16, 1)), detr.Found(keep=5))
    np.testing.assert_allclose(found.scores, [[0.6, 0.2]], rtol=1e-5)
    assert found.labels.tolist() == [[1, 0]]
    np.testing.assert_allclose(found.boxes, [[[0, 0, 8, 8], [0, 2, 16, 6]]], atol=1e-5)

"""Distances to boxes by hand, suppression as a naive loop does it, and back to the picture."""

import jax
import jax.numpy as jnp
import numpy as np

from research.data.boxes import letterbox
from research.evals import detection
from research.generation import boxes


def naive(all_boxes, scores, most_overlap, keep, candidates):
    """One picture: (score, class, box) in order, each dropped that overlaps a kept one of its class too much."""
    order = np.argsort(-scores.ravel(), kind="stable")[:candidates]
    kept = []
    for place in order:
        point, label = divmod(int(place), scores.shape[1])
        same = [box for _, other, box in kept if other == label]
        if all(detection.iou(all_boxes[point][None], box[None])[0, 0] <= most_overlap for box in same):
            kept.append((scores[point, label], label, all_boxes[point]))
    return kept[:keep]


def test_suppression_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 30, (3, 60, 2))
    rows = np.concatenate([corner, corner + rng.uniform(5, 30, (3, 60, 2))], -1).astype(np.float32)
    scores = rng.permuted(np.linspace(0.01, 0.99, 360).astype(np.float32)).reshape(3, 60, 2)
    found = jax.jit(lambda b, s: boxes.non_maximum_suppression(b, s, 0.4, 25, 100))(rows, scores)
    for b in range(3):
        expected = naive(rows[b], scores[b], 0.4, 25, 100)
        count = len(expected)
        np.testing.assert_array_equal(found.scores[b, :count], [score for score, *_ in expected])
        np.testing.assert_array_equal(found.labels[b, :count], [label for _, label, _ in expected])
        np.testing.assert_array_equal(found.boxes[b, :count], [box for *_, box in expected])
        assert not found.scores[b, count:].any()


def test_distances_by_hand():
    """All weight on 2 strides of 4 pixels, around (10, 6); equal weights of 0..3 are 1.5 strides."""
    sides = jnp.full((1, 1, 4, 4), -1e9).at[..., 2].set(0.0)
    points, strides = jnp.array([[10.0, 6]]), jnp.array([4.0])
    assert boxes.from_distances(sides, points, strides).tolist() == [[[2, -2, 18, 14]]]
    assert boxes.from_distances(jnp.zeros((1, 1, 4, 4)), points, strides).tolist() == [[[4, 0, 16, 12]]]


def test_to_the_picture_is_the_inverse_of_the_letterbox():
    size, box = (30, 60), np.array([[3.0, 5, 50, 28]])
    on_canvas = letterbox.boxes(box, size, (16, 16, 3))
    back = boxes.to_picture(jnp.asarray(on_canvas)[None], jnp.array([size]), (16, 16))
    np.testing.assert_allclose(back[0], box, atol=1e-4)
    outside = boxes.to_picture(jnp.array([[[-5.0, -5, 99, 99]]]), jnp.array([size]), (16, 16))
    np.testing.assert_allclose(outside[0], [[0, 0, 60, 30]])

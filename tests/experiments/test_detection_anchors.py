"""Anchors, matches and offsets by hand; default boxes by the paper's formulas; the sample of Faster R-CNN."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.detection import anchors, faster_rcnn, ssd


def test_anchors_are_about_the_centres_by_level_row_and_size():
    laid = anchors.lay((8, 16), [4, 8], [np.array([[2.0, 6]]), np.array([[8.0, 8], [4, 2]])])
    assert laid.shape == (2 * 4 + 2 * 2, 4)
    assert laid[0].tolist() == [1, -1, 3, 5]  # about (2, 2)
    assert laid[1].tolist() == [5, -1, 7, 5]  # about (6, 2): the next column
    assert laid[8:10].tolist() == [[0, 0, 8, 8], [2, 3, 6, 5]]  # both about (4, 4)


def test_default_boxes_by_hand():
    """Scales .2, .4 and .6 of 10 pixels: levels of 2 and 4 pixels, the squares between of sqrt(8) and sqrt(24)."""
    model = ssd.SSD(num_classes=1, widths=(4, 4, 4), levels=2, smallest=0.2, largest=0.6, ratios=(4.0,))
    boxes = ssd.default_boxes(model, (16, 16)) / 1.6
    sides = boxes[:, 2:] - boxes[:, :2]
    first, last = sides[:4], sides[-4:]
    np.testing.assert_allclose(first, [[2, 2], [8**0.5] * 2, [4, 1], [1, 4]], rtol=1e-5)
    np.testing.assert_allclose(last, [[4, 4], [24**0.5] * 2, [8, 2], [2, 8]], rtol=1e-5)
    model = ssd.SSD(num_classes=2, widths=(4, 4, 4), levels=2, ratios=(4.0,))
    variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 16, 16, 1), np.float32))
    classes, offsets = jax.eval_shape(model.apply, variables, np.zeros((3, 16, 16, 1), np.float32))
    assert (classes.shape, offsets.shape) == ((3, len(boxes), 3), (3, len(boxes), 4))


def test_a_match_by_hand():
    """Overlaps with the boxes: 1 and 0; 1/3 and 1/3; 0 and 1/7; none. The third box fills up, and would fit the last anchor."""
    laid = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [6, 2, 10, 6], [20, 20, 24, 24]], np.float32)
    boxes = jnp.array([[[0, 0, 4, 4], [4, 0, 8, 4], [20, 20, 24, 24]]], jnp.float32)
    real = jnp.array([[1.0, 1, 0]])
    matches = anchors.match(laid, boxes, real, 0.3, 0.5)
    assert matches.positive.tolist() == [[True, False, False, False]]
    assert matches.negative.tolist() == [[False, False, True, True]]  # the second is between the limits
    assert matches.box[0, :3].tolist() == [0, 0, 1]
    each = anchors.match(laid, boxes, real, 0.3, 0.5, each_box=True)
    assert each.positive.tolist() == [[True, True, False, False]]
    assert each.box[0, :2].tolist() == [0, 1]  # of equal overlaps the box without another anchor
    assert each.negative.tolist() == [[False, False, True, True]]
    none = anchors.match(laid, boxes, jnp.zeros((1, 3)), 0.3, 0.5, each_box=True)
    assert not none.positive.any()
    assert none.negative.all()


def test_offsets_by_hand_and_back():
    """From 4 x 2 about (4, 3) to 8 x 2 about (6, 4): half a width, half a height, log 2, 0."""
    anchor, box = jnp.array([2.0, 2, 6, 4]), jnp.array([2.0, 3, 10, 5])
    offsets = anchors.encode(box, anchor, (10.0, 5.0))
    np.testing.assert_allclose(offsets, [5, 5, 5 * np.log(2), 0], atol=1e-5)
    np.testing.assert_allclose(anchors.decode(offsets, anchor, (10.0, 5.0)), box, atol=1e-5)
    assert np.isfinite(anchors.decode(jnp.full(4, 1e4), anchor, (10.0, 5.0))).all()
    assert np.isfinite(anchors.encode(jnp.zeros(4), anchor, (1.0, 1.0))).all()  # what fills up


def test_the_highest_are_as_many_as_asked():
    values = jnp.array([[0.5, 0.5, 0.5, -1], [0.1, 0.9, 0.3, 0.2], [-1, -1, 0.2, -1]])
    got = anchors.highest(values, jnp.array([2, 1, 3]))
    assert got.tolist() == [[True, True, False, False], [False, True, False, False], [False, False, True, False]]


def test_a_sample_is_half_positive_at_most_and_random():
    """Of 20 anchors 9 are positive and 8 negative: 4 and 6 of 10; of 2 positive ones both."""
    place = jnp.arange(20)
    positive = jnp.stack([place < 9, place < 2])
    matches = anchors.Matches(jnp.zeros((2, 20), int), positive, jnp.stack([place >= 12] * 2))
    seen = np.zeros(20)
    for i in range(20):
        chosen, others = faster_rcnn.sample(jax.random.key(i), matches, 10, 4)
        assert chosen.sum(1).tolist() == [4, 2]
        assert others.sum(1).tolist() == [6, 8]
        assert not (chosen & ~matches.positive).any()
        assert not (others & ~matches.negative).any()
        seen += np.asarray(chosen | others)[0]
    assert (seen[:9] > 0).all()
    assert (seen[12:] > 0).all()


def test_regions_are_proposals_and_true_boxes_and_what_fills_up_weighs_nothing():
    """Three proposals, one of which fills up, and a box besides one that fills up: two regions have weight, of four."""
    proposals = jnp.array([[[0, 0, 9, 9], [30, 30, 40, 40], [0, 0, 0, 0]]], jnp.float32)
    batch = {"boxes": jnp.array([[[1, 1, 10, 10], [0, 0, 0, 0]]], jnp.float32), "box_mask": jnp.array([[1.0, 0]])}
    options = faster_rcnn.Loss(regions=4)
    regions, weights = faster_rcnn.choose(jax.random.key(0), batch, options, proposals, jnp.array([[1.0, 1, 0]]))
    assert weights.tolist() == [[1, 1, 0, 0]]  # a quarter of four, one, may be positive: a proposal or the box itself
    assert regions[0, 1].tolist() == [30, 30, 40, 40]
    assert regions[0, 0].tolist() in ([0, 0, 9, 9], [1, 1, 10, 10])

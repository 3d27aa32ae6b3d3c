"""Boxes go where the pixels go: a white rectangle on black is found again by its pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.boxes import augment
from research.util.errors import UserError

KEY = jax.random.key(0)
SIDE = 32


def batch_of(count=8, side=SIDE):
    rng = np.random.default_rng(0)
    image, boxes = np.zeros((count, side, side, 1), np.float32), np.zeros((count, 2, 4), np.float32)
    for i in range(count):
        (x, y), (w, h) = rng.integers(0, side // 2, 2), rng.integers(6, side // 2, 2)
        image[i, y : y + h, x : x + w] = 1
        boxes[i, 0] = x, y, x + w, y + h
    mask = np.tile(np.array([1, 0], np.float32), (count, 1))
    labels = np.stack([np.arange(count), np.zeros(count)], 1).astype(np.int32)
    return {
        "image": jnp.array(image),
        "boxes": jnp.array(boxes),
        "labels": jnp.array(labels),
        "box_mask": jnp.array(mask),
    }


def bounds(image, low=0.75):
    rows, columns = np.flatnonzero((image > low).any(1)), np.flatnonzero((image > low).any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


@pytest.mark.parametrize("vertical", [False, True])
def test_mirrored_twice_is_as_before(vertical):
    batch = batch_of()
    once = augment.flip(KEY, batch, 1.0, vertical)
    for i in range(8):
        assert tuple(once["boxes"][i, 0].tolist()) == bounds(np.asarray(once["image"][i, ..., 0]))
    twice = augment.flip(KEY, once, 1.0, vertical)
    for name, value in batch.items():
        np.testing.assert_array_equal(twice[name], value)
    assert (once["boxes"] != batch["boxes"]).any()


def test_half_of_them_are_mirrored():
    out = augment.flip(KEY, batch_of(200), 0.5)
    turned = (np.asarray(out["boxes"][:, 0]) != np.asarray(batch_of(200)["boxes"][:, 0])).any(1)
    assert 70 < turned.sum() < 130


def test_a_zoom_and_a_shift_carry_the_boxes():
    out = jax.jit(lambda k, b: augment.move(k, b, 0.3, 0.1))(KEY, batch_of(16))
    for i in range(16):
        if out["box_mask"][i, 0]:
            np.testing.assert_allclose(out["boxes"][i, 0], bounds(np.asarray(out["image"][i, ..., 0])), atol=1.3)
    assert float(out["image"].max()) <= 1 + 1e-5
    assert float(out["image"].min()) >= -1e-5


def test_what_comes_from_outside_is_grey():
    """Shifted by at least a pixel somewhere: a border of a black picture is grey."""
    batch = {**batch_of(), "image": jnp.zeros((8, SIDE, SIDE, 1))}
    out = augment.move(KEY, batch, 0.0, 0.5)["image"]
    assert set(np.unique(np.round(np.asarray(out), 1))) >= {0.0, 0.5}


def test_a_box_that_left_is_masked():
    boxes = jnp.array([[[-8.0, 0, 8, 8], [-14, 0, 2, 8], [40, 0, 50, 8], [0, 0, 8, 8]]])
    batch = {"image": jnp.zeros((1, 32, 32, 1)), "boxes": boxes, "box_mask": jnp.array([[1.0, 1, 1, 0]])}
    out = augment.cut(batch)
    assert out["box_mask"].tolist() == [[1, 0, 0, 0]]  # a half, an eighth, none; one that filled up
    assert out["boxes"][0, 0].tolist() == [0, 0, 8, 8]


def test_a_mosaic_has_four_pictures_and_their_boxes():
    out = augment.mosaic(KEY, batch_of(), 1.0)
    assert out["boxes"].shape == (8, 8, 4)
    assert out["box_mask"].sum(1).tolist() == [4] * 8
    for i in range(8):
        for tile in range(4):
            slot = 2 * tile
            assert int(out["labels"][i, slot]) == (i + tile) % 8
            x, y = 16 * (tile % 2), 16 * (tile // 2)
            quarter = np.asarray(out["image"][i, y : y + 16, x : x + 16, 0])
            box = np.asarray(out["boxes"][i, slot]) - [x, y, x, y]
            np.testing.assert_allclose(box, bounds(quarter, 0.2), atol=0.5)


def test_no_mosaic_only_adds_slots():
    batch = batch_of()
    out = augment.mosaic(KEY, batch, 0.0)
    np.testing.assert_array_equal(out["image"], batch["image"])
    np.testing.assert_array_equal(out["boxes"][:, :2], batch["boxes"])
    assert not out["box_mask"][:, 2:].any()


def test_no_option_changes_nothing_and_the_key_decides():
    batch = batch_of()
    out = augment.make({})(KEY, batch)
    assert all(out[name] is batch[name] for name in batch)
    change = jax.jit(augment.make({"flip": 0.5, "scale": 0.2, "shift": 0.1, "jitter": 0.3, "mosaic": 0.5}))
    a, b = change(KEY, batch), change(KEY, batch)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    assert (change(jax.random.key(1), batch)["image"] != a["image"]).any()


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"flop": 1.0}, "augment.flop is unknown"),
        ({"flip": 1.5}, "augment.flip = 1.5"),
        ({"scale": -1.0}, "augment.scale = -1.0"),
    ],
)
def test_bad_options(options, fault):
    with pytest.raises(UserError, match=fault):
        augment.make(options)


def test_an_odd_side_cannot_be_halved():
    with pytest.raises(UserError, match="33 x 33"):
        augment.mosaic(KEY, batch_of(side=33), 1.0)

"""Changes of a picture and its labels: alike for both, by hand, pure, refused where they mean nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.images import segmentation_augment as augment
from research.util.errors import UserError

OFF = dict(elastic=0.0, crop=0, flip=0.0, flip_vertical=0.0, transpose=0.0)


def batch(n=4, rows=6, columns=6):
    """Pictures whose grey is their label: what moves one and not the other is seen."""
    label = np.arange(n * rows * columns).reshape(n, rows, columns).astype(np.int32)
    return {"image": jnp.asarray(label[..., None], jnp.float32), "label": jnp.asarray(label), "other": jnp.arange(n)}


@pytest.mark.parametrize("change", [dict(crop=3), dict(flip=0.5), dict(flip_vertical=0.5), dict(transpose=0.5)])
def test_pictures_and_labels_move_together(change):
    got = augment.make({**OFF, **change}, (6, 6, 1))(jax.random.key(3), batch())
    np.testing.assert_array_equal(got["image"][..., 0], got["label"])
    assert len({tuple(np.ravel(x - x.min())) for x in np.asarray(got["label"])}) > 1 or change == dict(crop=3)
    assert got["label"].shape == ((4, 3, 3) if "crop" in change else (4, 6, 6))
    assert got["other"].tolist() == [0, 1, 2, 3]


def test_a_crop_is_a_part_of_its_own_picture():
    before = batch(50)
    got = np.asarray(augment.crop(jax.random.key(0), before, 3)["label"])
    corners = got[:, 0, 0] - np.arange(50) * 36
    assert set(corners // 6) == set(corners % 6) == {0, 1, 2, 3}
    np.testing.assert_array_equal(
        got - got[:, :1, :1], np.broadcast_to(6 * np.arange(3)[:, None] + np.arange(3), (50, 3, 3))
    )


def test_flips_by_hand():
    one = {"image": jnp.zeros((1, 2, 2, 1)), "label": jnp.array([[[1, 2], [3, 4]]])}
    wanted = {"flip": [[2, 1], [4, 3]], "flip_vertical": [[3, 4], [1, 2]], "transpose": [[1, 3], [2, 4]]}
    for name, want in wanted.items():
        assert augment.make({**OFF, name: 1.0}, (2, 2, 1))(jax.random.key(0), one)["label"][0].tolist() == want


def test_a_displacement_by_hand():
    """To the right: between two pixels for pictures, the nearest for labels; beyond the edge the picture is mirrored."""
    one = {
        "image": jnp.array([[[[0.0], [4.0], [8.0]]]]),
        "label": jnp.array([[[5, 6, 7]]]),
        "weight": jnp.array([[[0.0, 1.0, 3.0]]]),
    }
    got = augment.deform(one, jnp.array([0.0, 0.4]) * jnp.ones((1, 1, 3, 1)))
    assert got["image"][0, 0, :, 0].tolist() == pytest.approx([1.6, 5.6, 6.4])
    assert got["weight"][0, 0].tolist() == pytest.approx([0.4, 1.8, 2.2])
    assert got["label"].tolist() == [[[5, 6, 7]]] and got["label"].dtype == jnp.int32
    assert augment.deform(one, jnp.array([0.0, 0.6]) * jnp.ones((1, 1, 3, 1)))["label"].tolist() == [[[6, 7, 6]]]


def test_an_elastic_deformation_is_smooth_and_of_its_size():
    """A ramp shows the displacements: neighbours differ little, and their deviation is about `std`."""
    ramp = jnp.broadcast_to(jnp.arange(64.0)[:, None, None], (8, 64, 64, 1))
    one = {"image": ramp, "label": jnp.zeros((8, 64, 64), jnp.int32)}
    got = augment.elastic(jax.random.key(0), one, 3.0)
    moved = (got["image"] - ramp)[:, 16:48, :, 0]
    assert 1 < float(moved.std()) < 4 and float(jnp.abs(jnp.diff(moved, axis=2)).max()) < 1
    again = augment.elastic(jax.random.key(0), one, 3.0)["image"]
    np.testing.assert_array_equal(got["image"], again)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(flip=2.0), "augment.flip = 2.0: a probability"),
        (dict(elastic=-1.0), "augment.elastic = -1.0"),
        (dict(crop=7), "augment.crop = 7: pixels of 6 x 8"),
        (dict(transpose=0.5), "pictures of 6 x 8 are not square"),
    ],
)
def test_what_means_nothing_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        augment.make({**OFF, **change}, (6, 8, 1))

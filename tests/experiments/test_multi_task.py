"""Multi-task learning: what scenes are, what each task's terms are, single tasks, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.multi_task import data, train
from experiments.multi_task.configs import tiny
from research.core import config
from research.data.pipeline import Arrays
from research.losses import boxes
from research.util.errors import UserError


def build(*changes):
    cfg = tiny.get_config()
    for change in changes:
        config.override(cfg, *change.split("=", 1))
    return train.build(cfg)


class Source(Arrays):
    """Without epochs, as the images of a data set."""

    def gather(self, indices, epoch=0):
        return super().gather(indices, epoch)


def squares(n=5, size=4):
    """Pictures that are full of one grey, i / 8 of picture i, whose class is i."""
    grey = np.arange(1, n + 1, dtype=np.float32) / 8
    images = np.broadcast_to(grey[:, None, None, None], (n, size, size, 1)).copy()

    return Source({"image": images, "label": np.arange(n, dtype=np.int32)})


def test_a_pair_has_its_pictures_in_two_corners_the_lighter_where_they_meet():
    batch = data.Scenes(squares(), "pair", canvas=6, sides=(4, 4), seed=0).gather(np.arange(5), 0)
    assert batch["image"].shape == (5, 6, 6, 1) and batch["left"].tolist() == [0, 1, 2, 3, 4]
    for image, left, right in zip(batch["image"][..., 0], batch["left"], batch["right"], strict=True):
        grey = (left + 1) / 8, (right + 1) / 8
        assert (image[0, 0], image[5, 5], image[3, 3]) == (*grey, max(grey))
        assert image[0, 5] == image[5, 0] == 0


def test_a_box_is_where_the_picture_is():
    batch = data.Scenes(squares(), "boxed", canvas=10, sides=(3, 7), seed=0).gather(np.arange(5), 3)
    for image, (y, x, height, width) in zip(batch["image"][..., 0], batch["box"] * 10, strict=True):
        rows, columns = (slice(round(c - s / 2), round(c + s / 2)) for c, s in ((y, height), (x, width)))
        assert image[rows, columns].all() and np.count_nonzero(image) == round(height) * round(width)
        assert 3 <= round(height) == round(width) <= 7


@pytest.mark.parametrize("scene", data.SCENES)
def test_a_scene_is_a_function_of_seed_epoch_and_index(scene):
    def scenes(seed):
        return data.Scenes(squares(), scene, canvas=8, sides=(3, 5), seed=seed)

    whole, part = scenes(1).gather(np.arange(5), 2), scenes(1).gather(np.array([3, 1]), 2)
    for name, values in part.items():
        np.testing.assert_array_equal(values, whole[name][[3, 1]])
    for other in (scenes(1).gather(np.arange(5), 3), scenes(2).gather(np.arange(5), 2)):
        assert (other["image"] != whole["image"]).any()


def test_a_picture_is_scaled_by_the_mean():
    picture = np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    assert data.scaled(picture, 2)[..., 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    np.testing.assert_array_equal(data.scaled(picture, 4), picture)
    assert data.scaled(picture, 8)[::2, 1::2].tolist() == picture.tolist()
    assert data.scaled(np.float32([[[0], [3]], [[6], [9]]]), 3)[..., 0].tolist() == [
        [0, 1.5, 3],
        [3, 4.5, 6],
        [6, 7.5, 9],
    ]


def test_overlap_of_boxes_by_hand():
    a = jnp.array([[0.5, 0.5, 0.2, 0.2]] * 3)
    b = jnp.array([[0.5, 0.5, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2], [0.9, 0.5, 0.2, 0.2]])
    assert np.asarray(boxes.iou(train.corners(a), train.corners(b))) == pytest.approx([1, 1 / 3, 0], abs=1e-5)


def terms_of(e, params=None):
    variables = e.init_fn(jax.random.key(0))
    params = {**variables["params"], **(params or {})}
    numbers = dict.fromkeys(e.data.kinds, 1.0)
    batch = e.train.batch(0)
    terms, (metrics, _) = train.loss(e.model, params, {}, batch, jax.random.key(0), kinds=e.data.kinds, weights=numbers)
    return terms, metrics, batch, params


def test_each_tasks_term_by_hand():
    e = build("weights.name=fixed")
    terms, metrics, batch, params = terms_of(e)
    outputs = e.model.apply({"params": params}, batch["image"])
    p = np.asarray(jax.nn.softmax(outputs["digit"]))[np.arange(16), batch["digit"]]
    box = 1 / (1 + np.exp(-np.asarray(outputs["box"])))
    assert float(terms["digit"][0]) == pytest.approx(-np.log(p).sum(), rel=1e-4)
    assert float(terms["box"][0]) == pytest.approx(np.abs(box - batch["box"]).mean(1).sum(), rel=1e-4)
    assert float(metrics["loss"][0]) == pytest.approx(float(terms["digit"][0] + terms["box"][0]), rel=1e-5)


def test_learnt_weights_begin_at_one_and_follow_the_variance():
    e = build("weights.name=uncertainty")
    terms, _, _, _ = terms_of(e)
    assert [float(terms[t][2]) for t in ("digit", "box")] == [1, 1]
    terms, metrics, _, _ = terms_of(e, {"log_variance": jnp.log(jnp.array([4.0, 9.0]))})
    assert float(terms["digit"][2]) == pytest.approx(1 / 4) and float(terms["box"][2]) == pytest.approx(1 / 3)
    assert float(terms["box_scale"][0] / terms["box_scale"][1]) == pytest.approx(np.log(3))
    assert float(metrics["digit_weight"][0] / metrics["digit_weight"][1]) == pytest.approx(1 / 4)


def test_a_single_task_has_one_head_and_the_same_pictures():
    both, alone = build(), build("tasks=('box',)", "weights.name=fixed")
    assert alone.model.heads == {"box": 4}
    np.testing.assert_array_equal(both.train.batch(3)["image"], alone.train.batch(3)["image"])


@pytest.mark.parametrize(
    "change, words",
    [
        ("data.scene=row", "data.scene = 'row'"),
        ("data.sides=(9, 6)", "data.sides = "),
        ("data.sides=(6, 13)", "at most data.canvas = 12"),
        ("tasks=('left',)", "'left' is no task of boxed"),
        ("tasks=('box', 'box')", "each once"),
        ("tasks=('box',)", "balances two tasks, and there is box alone"),
        ("weights.name=gradnorm", "weights.name = 'gradnorm'"),
        ("weights.values=(1.0, 2.0)", "for fixed alone"),
    ],
)
def test_what_means_nothing_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        build(change)


def test_a_black_picture_has_no_box():
    with pytest.raises(UserError, match="a picture is black"):
        data.ink_box(np.zeros((4, 4, 1)))


@pytest.mark.parametrize("values", ["(1.0,)", "(1.0, 0.0)"])
def test_fixed_weights_are_one_above_zero_a_task(values):
    with pytest.raises(UserError, match="one above 0 for each of digit, box"):
        build("weights.name=fixed", f"weights.values={values}")

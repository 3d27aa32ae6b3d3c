"""Style transfer: the objective's fixed points, descent on pixels, pictures of any size, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.style_transfer import objective, optimise, train
from research.core import config
from research.util.errors import UserError

ONE = dict(content=1.0, style=1.0, variation=1.0)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return rng.random((1, 24, 20, 3), np.float32), 0.5 * rng.random((16, 16, 3), np.float32)


def build(*changes):
    return train.build(config.load("style_transfer/tiny", list(changes)))


def test_a_picture_has_its_own_content_and_the_style_its_own_style(pictures):
    original, style = pictures
    terms = objective.Objective("random", style, ONE)
    own = jax.jit(terms)(original, original)
    assert own["content"][0] == pytest.approx(0, abs=1e-9) and own["style"][0] > 0.01
    of_style = jax.jit(terms)(style[None], jnp.ones_like(style[None]))
    assert of_style["style"][0] == pytest.approx(0, abs=1e-9) and of_style["content"][0] > 0.01
    assert terms.total({"content": 1.0, "style": 2.0, "variation": 4.0}) == 7


def test_without_content_noise_becomes_a_texture_of_the_style(pictures):
    """Descent on pixels leaves a fiftieth of the distance of the Gram matrices, and values stay in 0..1."""
    _, style = pictures
    flat = np.full((1, 16, 16, 3), 0.5, np.float32)
    terms = objective.Objective("random", style, dict(content=0.0, style=1.0, variation=0.0))
    start = np.random.default_rng(1).random(flat.shape, np.float32)
    painted = optimise.optimised(terms, start, flat, steps=60, rate=0.05)
    before, after = (float(jax.jit(terms)(x, flat)["style"][0]) for x in (start, painted))
    assert after < before / 50 and painted.min() >= 0 and painted.max() <= 1


def test_the_network_that_judges_does_not_move():
    """What is trained has the stylist's layers alone."""
    e = build()
    params = jax.eval_shape(e.init_fn, jax.random.key(0))["params"]
    assert {name.split("_")[0] for name in params} == {"stem", "down2", "down4", "block0", "up2", "up1", "head"}


def test_pictures_of_any_size_keep_it():
    e = build()
    codec = e.predictor.codec
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (18, 25, 3), dtype=np.uint8))
    row = codec.encode(picture)
    assert row["image"].shape == (1, 18, 25, 3)
    variables = jax.jit(e.init_fn)(jax.random.key(0))
    predict = jax.jit(e.predictor.fn)
    restyled = predict(variables, row)
    assert codec.draw(picture, codec.decode(restyled)).size == (25, 18)
    larger = np.pad(row["image"], ((0, 0), (0, 2), (0, 3), (0, 0)), "edge")  # to multiples of 4
    np.testing.assert_allclose(
        e.predictor.fn(variables, {"image": larger})["image"][:, :18, :25], restyled["image"], atol=1e-6
    )


def test_a_style_is_scaled_by_its_shorter_side(tmp_path):
    Image.new("RGB", (60, 30), (255, 0, 0)).save(tmp_path / "red.png")
    red = objective.picture(str(tmp_path / "red.png"), 10)
    assert red.shape == (10, 20, 3) and (red == [1, 0, 0]).all()
    assert objective.picture(None, 20).shape == (20, 30, 3)


@pytest.mark.parametrize(
    "change, words",
    [
        ("data.source=digits", "a style needs pictures in colour"),
        ("style.size=0", "a size of 0 pixels"),
        ("style.path=nowhere.png", "nowhere.png cannot be read"),
        ("style.features=vgg", "features = 'vgg'"),
        ("style.features=classifier", "features = 'classifier' needs pictures that have classes"),
    ],
)
def test_what_means_nothing_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        build(change)

"""RandAugment: each operation against Pillow, and the draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from research.data.images import randaugment
from research.util.errors import UserError

GREY = (128, 128, 128)


@pytest.fixture(scope="module")
def picture():
    """A noisy slope that does not use all levels, u8[20, 26, 3]."""
    noise = np.random.default_rng(0).normal(120, 40, (20, 26, 3))
    return np.clip(noise + np.linspace(-60, 60, 26)[None, :, None], 5, 249).astype(np.uint8)


def moved(image, *matrix):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=GREY)


# name: (our function, its argument, Pillow's image, the most that a level may differ)
AGAINST_PILLOW = {
    "rotate": (randaugment.rotate, 17.0, lambda im: im.rotate(17, fillcolor=GREY), 0),
    "shear_x": (randaugment.shear_x, 0.21, lambda im: moved(im, 1, 0.21, 0, 0, 1, 0), 0),
    "shear_y": (randaugment.shear_y, -0.17, lambda im: moved(im, 1, 0, 0, -0.17, 1, 0), 0),
    "translate_x": (randaugment.translate_x, 3.3, lambda im: moved(im, 1, 0, 3.3, 0, 1, 0), 0),
    "translate_y": (randaugment.translate_y, -3.3, lambda im: moved(im, 1, 0, 0, 0, 1, -3.3), 0),
    "posterize": (randaugment.posterize, 5.0, lambda im: ImageOps.posterize(im, 5), 0),
    "solarize": (randaugment.solarize, 100 / 255, lambda im: ImageOps.solarize(im, 100), 0),
    "equalize": (randaugment.equalize, None, ImageOps.equalize, 0),
    "autocontrast": (randaugment.autocontrast, None, ImageOps.autocontrast, 1),  # Pillow rounds down
    "brightness": (randaugment.brightness, 1.6, lambda im: ImageEnhance.Brightness(im).enhance(1.6), 1),
    "contrast": (randaugment.contrast, 1.6, lambda im: ImageEnhance.Contrast(im).enhance(1.6), 1),
    "colour": (
        randaugment.colour,
        0.4,
        lambda im: ImageEnhance.Color(im).enhance(0.4),
        1.2,
    ),  # and rounds its grey, too
    "sharpness": (
        randaugment.sharpness,
        1.7,
        lambda im: ImageEnhance.Sharpness(im).enhance(1.7),
        1.7,
    ),  # and its smoothed image
}


@pytest.mark.parametrize("name", AGAINST_PILLOW)
def test_equals_pillow(name, picture):
    function, argument, theirs, tolerance = AGAINST_PILLOW[name]
    x = jnp.asarray(picture / 255, jnp.float32)
    ours = function(x) if argument is None else function(x, argument)
    expected = np.asarray(theirs(Image.fromarray(picture)), np.float64)
    assert np.abs(255 * np.asarray(ours, np.float64) - expected).max() <= tolerance + 1e-4
    assert not np.array_equal(expected, picture)


def test_an_image_of_one_colour_is_left_alone_where_there_is_nothing_to_stretch():
    for x in (jnp.full((4, 5, 1), 0.25), jnp.zeros((4, 5, 3))):
        assert np.array_equal(randaugment.autocontrast(x), x)
        np.testing.assert_allclose(randaugment.equalize(x), x, atol=0.5 / 255)


def test_grey_images_have_every_operation():
    x = jnp.asarray(np.random.default_rng(0).random((9, 7, 1)), jnp.float32)
    for name, operation in randaugment.OPERATIONS.items():
        y = operation(x, jnp.float32(0.5))
        assert y.shape == x.shape and float(y.min()) >= 0 and float(y.max()) <= 1, name
    np.testing.assert_allclose(randaugment.colour(x, 0.3), x, atol=1e-6)


@pytest.mark.parametrize("name", randaugment.OPERATIONS)
def test_level_zero_changes_nothing_that_has_a_level(name):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3)) / 255, jnp.float32)  # 255 would be inverted
    y = randaugment.OPERATIONS[name](x, jnp.float32(0))
    if name not in ("autocontrast", "equalize"):
        np.testing.assert_allclose(y, x, atol=1e-6)


def batch_of(n):
    image = np.random.default_rng(0).random((1, 8, 8, 3))
    return {"image": jnp.repeat(jnp.asarray(image, jnp.float32), n, 0), "label": jnp.arange(n)}


def test_draws_are_even_and_of_the_key_alone():
    batch, n = batch_of(1500), 1500
    change = jax.jit(
        lambda key: randaugment.randaugment(key, batch, 1, 5.0, 0.0, ("identity", "solarize", "translate_x"))
    )
    out, again, other = (np.asarray(change(jax.random.key(k))["image"]) for k in (0, 0, 1))
    assert np.array_equal(out, again) and not np.array_equal(out, other)
    kinds, counts = np.unique(out.reshape(n, -1).round(4), axis=0, return_counts=True)
    # The identity, solarize, and the two directions of a translation.
    assert len(kinds) == 4
    expected = np.array([n / 6, n / 6, n / 3, n / 3])
    assert (np.abs(np.sort(counts) - expected) < 5 * expected**0.5).all()


def test_two_layers_are_one_after_the_other():
    out = randaugment.randaugment(jax.random.key(0), batch_of(3), 2, 10.0, operations=("solarize",))["image"]
    np.testing.assert_allclose(out, batch_of(3)["image"], atol=1e-6)  # at full strength all is inverted, twice


def test_noise_changes_the_magnitude():
    out = randaugment.randaugment(jax.random.key(0), batch_of(50), 1, 5.0, 2.0, ("brightness",))["image"]
    assert len(np.unique(np.asarray(out[:, 0, 0, 0]).round(5))) > 40


def test_it_keeps_the_dtype():
    batch = {"image": batch_of(2)["image"].astype(jnp.bfloat16)}
    assert randaugment.randaugment(jax.random.key(0), batch, 1, 5.0)["image"].dtype == jnp.bfloat16


def test_an_unknown_operation_is_named():
    with pytest.raises(UserError, match="augment.rand_operations: 'solarise' is unknown; did you mean 'solarize'"):
        randaugment.check(("solarise",))
    with pytest.raises(UserError, match="rand_operations is empty"):
        randaugment.check(())

"""Tiles give what the whole picture gives, by a U-Net, in a tile's memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.generation import tiles
from research.models.vision.unet import UNet, reach, stride
from research.util.errors import UserError

MODEL = UNet(3, (3, 4))  # stride 2, reach 8


@pytest.fixture(scope="module")
def fn():
    """A U-Net with running statistics that are not a fresh one's."""
    x = jax.random.normal(jax.random.key(1), (2, 16, 16, 1))
    variables = jax.jit(MODEL.init)(jax.random.key(0), x)
    _, state = MODEL.apply(variables, 3 * x + 1, train=True, mutable=["batch_stats"])
    return jax.jit(partial(MODEL.apply, {**variables, **state}))


@pytest.mark.parametrize("size", [(78, 51), (17, 70), (20, 20)])
def test_tiles_are_the_whole_picture(fn, size):
    """Sides that are no multiples of the stride, one below a tile, both below it."""
    image = jax.random.normal(jax.random.key(2), (2, *size, 1))
    whole = tiles.padded(fn, image, stride(MODEL))
    got = tiles.padded(fn, image, stride(MODEL), tile=32, margin=reach(MODEL))
    assert whole.shape == (2, *size, 3)
    np.testing.assert_allclose(got, whole, atol=1e-5)


def test_a_margin_below_the_reach_shows_seams(fn):
    image = jax.random.normal(jax.random.key(2), (1, 78, 52, 1))
    got = tiles.padded(fn, image, stride(MODEL), tile=32, margin=2)
    assert abs(got - fn(image)).max() > 1e-3


def test_memory_is_a_tiles(fn):
    """Four times the pixels: the whole picture's temporaries grow by four times, the tiles' by the output's alone."""

    def temporaries(side, **options):
        image = jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
        compiled = jax.jit(lambda x: tiles.padded(fn, x, stride(MODEL), **options)).lower(image).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    options = dict(tile=32, margin=reach(MODEL))
    small, large = temporaries(128, **options), temporaries(256, **options)
    output = (256**2 - 128**2) * 3 * 4
    assert large - small <= 3 * output
    assert large < temporaries(256) / 2


def test_a_tile_without_an_inside():
    with pytest.raises(UserError, match="tiles of 16 pixels: a multiple of 2, at least 18"):
        tiles.tiled(lambda x: x, jnp.zeros((1, 64, 64, 1)), 2, 16, 8)

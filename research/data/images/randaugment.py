"""RandAugment (Cubuk et al. 2019, 1909.13719): operations drawn at random, of one magnitude, on images f32[Y, X, C] in 0..1.

The fourteen operations and their ranges are AutoAugment's (Cubuk et al. 2018, 1805.09501, table 6), computed as Pillow does:
256 levels for what is defined by levels, nearest neighbours for what moves pixels, and grey (128) for what comes from outside.
A magnitude is in 0..10; every operation grows stronger with it.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp

from research.util.errors import UserError, nearest

LARGEST = 10.0
OUTSIDE = 128 / 255
Image: TypeAlias = jax.Array  # f32[Y, X, C]
Number: TypeAlias = jax.Array | float  # of one image


def randaugment(
    key: jax.Array,
    batch: dict[str, jax.Array],
    layers: int,
    magnitude: float,
    noise: float = 0.0,
    operations: Sequence[str] | None = None,
) -> dict[str, jax.Array]:
    """`layers` operations on each image, each drawn from `operations` (names in OPERATIONS; None: all of them).

    An operation's magnitude is drawn from N(magnitude, noise^2), cut to 0..10; its direction, where it has two, by a coin.
    Raises UserError for an unknown operation. Computed in f32.
    """
    functions = [OPERATIONS[name] for name in check(operations)]
    image = batch["image"]

    def change(key: jax.Array, x: Image) -> Image:
        for layer_key in jax.random.split(key, layers):
            which, strength, sign = jax.random.split(layer_key, 3)
            level = jnp.clip(magnitude + noise * jax.random.normal(strength), 0, LARGEST) / LARGEST
            level = jnp.where(jax.random.bernoulli(sign), level, -level)
            x = jax.lax.switch(jax.random.randint(which, (), 0, len(functions)), functions, x, level)
        return x

    out = jax.vmap(change)(jax.random.split(key, len(image)), image.astype(jnp.float32))
    return {**batch, "image": out.astype(image.dtype)}


def check(operations: Sequence[str] | None) -> Sequence[str]:
    """`operations`, or all. Raises UserError for an unknown one, or none."""
    names = tuple(OPERATIONS) if operations is None else tuple(operations)
    for name in names:
        if name not in OPERATIONS:
            raise UserError(f"augment.rand_operations: {name!r} is unknown{nearest(name, OPERATIONS)}")
    if not names:
        raise UserError("augment.rand_operations is empty; None is all of them")
    return names


# Colours. `factor` 1 is the image itself, 0 without the quality, 2 with twice as much.


def brightness(x: Image, factor: Number) -> Image:
    return _blend(jnp.zeros_like(x), x, factor)


def contrast(x: Image, factor: Number) -> Image:
    """Towards the mean grey level, to the nearest of 256."""
    return _blend(jnp.floor(255 * _grey(x).mean() + 0.5) / 255, x, factor)


def colour(x: Image, factor: Number) -> Image:
    """Towards the grey image; a grey image stays."""
    return _blend(_grey(x), x, factor)


def sharpness(x: Image, factor: Number) -> Image:
    """Towards the image smoothed by [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13; pixels of the border stay."""
    rows, columns = x.shape[:2]
    around = (
        sum(x[i : rows - 2 + i, j : columns - 2 + j] for i in range(3) for j in range(3))
        if min(rows, columns) > 2
        else 0
    )
    smooth = x if min(rows, columns) < 3 else x.at[1:-1, 1:-1].set((around + 4 * x[1:-1, 1:-1]) / 13)
    return _blend(smooth, x, factor)


def posterize(x: Image, bits: Number) -> Image:
    """The `bits` high bits of eight."""
    step = 2 ** (8 - jnp.round(bits))
    return jnp.floor(_levels(x) / step) * step / 255


def solarize(x: Image, threshold: Number) -> Image:
    """Values from `threshold` on are inverted."""
    return jnp.where(x >= threshold, 1 - x, x)


def autocontrast(x: Image) -> Image:
    """Each channel's values are stretched over 0..1."""
    low, high = x.min((0, 1)), x.max((0, 1))
    spread = high - low
    return jnp.where(spread > 0, (x - low) / jnp.where(spread > 0, spread, 1), x)


def equalize(x: Image) -> Image:
    """Each channel's histogram of 256 levels is made flat."""

    def channel(levels: jax.Array) -> jax.Array:
        counts = jnp.bincount(levels, length=256)
        step = (len(levels) - counts[levels.max()]) // 255
        table = (jnp.cumsum(counts) - counts + step // 2) // jnp.maximum(step, 1)
        return jnp.where(step > 0, jnp.clip(table, 0, 255), jnp.arange(256))[levels] / 255

    levels = _levels(x).astype(jnp.int32)
    return jax.vmap(channel, 1, 1)(levels.reshape(-1, x.shape[-1])).reshape(x.shape)


# Movements. A matrix maps the place of an output pixel to where it comes from.


def rotate(x: Image, degrees: Number) -> Image:
    """Counter-clockwise about the centre."""
    angle = jnp.deg2rad(degrees)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y0, x0 = x.shape[0] / 2, x.shape[1] / 2
    return _affine(x, (cos, -sin, x0 - cos * x0 + sin * y0), (sin, cos, y0 - sin * x0 - cos * y0))


def shear_x(x: Image, slope: Number) -> Image:
    return _affine(x, (1, slope, 0), (0, 1, 0))


def shear_y(x: Image, slope: Number) -> Image:
    return _affine(x, (1, 0, 0), (slope, 1, 0))


def translate_x(x: Image, pixels: Number) -> Image:
    return _affine(x, (1, 0, pixels), (0, 1, 0))


def translate_y(x: Image, pixels: Number) -> Image:
    return _affine(x, (1, 0, 0), (0, 1, pixels))


# name -> (image, level in -1..1) -> image. Table 6: 30 degrees, 0.3, 150 of 331 pixels, factors 0.1 to 1.9, 8 to 4 bits.
OPERATIONS: dict[str, Callable[[Image, Number], Image]] = {
    "identity": lambda x, level: x,
    "autocontrast": lambda x, level: autocontrast(x),
    "equalize": lambda x, level: equalize(x),
    "rotate": lambda x, level: rotate(x, 30 * level),
    "solarize": lambda x, level: solarize(x, 1 - jnp.abs(level)),
    "colour": lambda x, level: colour(x, 1 + 0.9 * level),
    "posterize": lambda x, level: posterize(x, 8 - 4 * jnp.abs(level)),
    "contrast": lambda x, level: contrast(x, 1 + 0.9 * level),
    "brightness": lambda x, level: brightness(x, 1 + 0.9 * level),
    "sharpness": lambda x, level: sharpness(x, 1 + 0.9 * level),
    "shear_x": lambda x, level: shear_x(x, 0.3 * level),
    "shear_y": lambda x, level: shear_y(x, 0.3 * level),
    "translate_x": lambda x, level: translate_x(x, 150 / 331 * x.shape[1] * level),
    "translate_y": lambda x, level: translate_y(x, 150 / 331 * x.shape[0] * level),
}


def _blend(without: jax.Array, x: Image, factor: Number) -> Image:
    return jnp.clip(without + factor * (x - without), 0, 1)


def _grey(x: Image) -> jax.Array:
    """ITU-R 601's luma, f32[Y, X, 1]."""
    return x if x.shape[-1] == 1 else (x @ jnp.array([0.299, 0.587, 0.114], x.dtype))[..., None]


def _levels(x: Image) -> Image:
    """0, 1, ..., 255."""
    return jnp.round(255 * x)


def _affine(x: Image, to_x: tuple, to_y: tuple) -> Image:
    rows, columns = x.shape[:2]
    y, x_ = jnp.mgrid[:rows, :columns] + 0.5  # centres of pixels
    source_x, source_y = (jnp.floor(a * x_ + b * y + c).astype(jnp.int32) for a, b, c in (to_x, to_y))
    inside = (source_x >= 0) & (source_x < columns) & (source_y >= 0) & (source_y < rows)
    moved = x[jnp.clip(source_y, 0, rows - 1), jnp.clip(source_x, 0, columns - 1)]
    return jnp.where(inside[..., None], moved, jnp.asarray(OUTSIDE, x.dtype))

"""A picture of any size through a network tile by tile, without seams."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from research.util.errors import UserError


def padded(fn: Callable, image: jax.Array, stride: int, tile: int = 0, margin: int = 0) -> jax.Array:
    """`fn` (f[B, Y, X, C] -> f[B, Y, X, N]) of pictures of any size, whole or `tiled`.

    They are mirrored at their lower and right edges up to multiples of `stride`.
    """
    rows, columns = image.shape[1:3]
    image = jnp.pad(image, ((0, 0), (0, -rows % stride), (0, -columns % stride), (0, 0)), mode="symmetric")
    out = tiled(fn, image, stride, tile, margin) if tile else fn(image)
    return out[:, :rows, :columns]


def tiled(fn: Callable, image: jax.Array, stride: int, tile: int, margin: int) -> jax.Array:
    """`fn(image)`, f[B, Y, X, N], from tiles of `tile` pixels a side, one at a time.

    Of each, `margin` pixels are left out at the sides that are not the picture's. Equal to `fn(image)` if no pixel's output
    depends on what lies further than `margin` outside of its block of `stride` pixels, and `fn` shifts with its input by
    multiples of `stride`. The picture's sides are such multiples. The memory of `fn` is a tile's.
    Raises UserError if the tile is no multiple of `stride`, or has nothing inside of its margins.
    """
    margin += -margin % stride
    if tile % stride or tile <= 2 * margin:
        least = 2 * margin + stride
        raise UserError(f"tiles of {tile} pixels: a multiple of {stride}, at least {least}, so that no seam shows")
    height, width = (min(tile, side) for side in image.shape[1:3])
    tops, lefts = (_starts(side, tile, margin) for side in image.shape[1:3])
    corners = jnp.array([(top, left) for top in tops for left in lefts])
    shape = jax.eval_shape(fn, jax.ShapeDtypeStruct((len(image), height, width, image.shape[3]), image.dtype))

    def add(out: jax.Array, corner: jax.Array) -> tuple[jax.Array, None]:
        at = (0, corner[0], corner[1], 0)
        new = fn(jax.lax.dynamic_slice(image, at, (len(image), height, width, image.shape[3])))
        old = jax.lax.dynamic_slice(out, at, new.shape)
        inside = _inside(corner[0], height, image.shape[1], margin)[:, None]
        inside &= _inside(corner[1], width, image.shape[2], margin)
        return jax.lax.dynamic_update_slice(out, jnp.where(inside[..., None], new, old), at), None

    empty = jnp.zeros((*image.shape[:3], shape.shape[-1]), shape.dtype)
    return jax.lax.scan(add, empty, corners)[0]


def _starts(side: int, tile: int, margin: int) -> list[int]:
    """Where tiles begin along a side; the last ends with it."""
    if side <= tile:
        return [0]
    return [*range(0, side - tile, tile - 2 * margin), side - tile]


def _inside(start: jax.Array, size: int, side: int, margin: int) -> jax.Array:
    """Which pixels of a tile along a side are kept: those in no margin, or where the picture ends, bool[size]."""
    at = np.arange(size)
    return ((at >= margin) | (start == 0)) & ((at < size - margin) | (start + size == side))

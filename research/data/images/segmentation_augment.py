"""Random changes of pictures together with their labels, as pure functions of (key, batch) that can be jitted.

A batch is {"image": f32[B, Y, X, C], "label": i32[B, Y, X], and perhaps "weight": f32[B, Y, X]}; other keys pass through. Every
picture is changed in a way of its own. Between pixels images and weights are interpolated, labels are the nearest pixel's.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from research.core.step import make_rngs
from research.util.errors import UserError

Batch = dict[str, jax.Array]
GRID = 3  # points of the elastic deformation's grid along a side: the paper's


def make(cfg: Mapping, shape: tuple[int, int, int]) -> Callable[[jax.Array, Batch], Batch]:
    """Returns `(key, batch) -> batch`: elastic deformation, crop, flips, each by its option, 0 for none.

    Raises UserError for a value out of range, or a crop larger than the pictures' `shape`.
    """
    c = {key: cfg[key] for key in ("elastic", "crop", "flip", "flip_vertical", "transpose")}
    for key in ("flip", "flip_vertical", "transpose"):
        if not 0 <= c[key] <= 1:
            raise UserError(f"augment.{key} = {c[key]}: a probability")
    if c["elastic"] < 0:
        raise UserError(f"augment.elastic = {c['elastic']}: a standard deviation in pixels, 0 for none")
    if not 0 <= c["crop"] <= min(shape[:2]):
        raise UserError(f"augment.crop = {c['crop']}: pixels of {shape[0]} x {shape[1]}, 0 for all")
    if c["transpose"] and not c["crop"] and shape[0] != shape[1]:
        raise UserError(f"augment.transpose = {c['transpose']}: pictures of {shape[0]} x {shape[1]} are not square")

    def change(key: jax.Array, batch: Batch) -> Batch:
        keys = make_rngs(key, *c)
        if c["elastic"]:
            batch = elastic(keys["elastic"], batch, c["elastic"])
        if c["crop"]:
            batch = crop(keys["crop"], batch, c["crop"])
        for name, function in (
            ("flip", lambda x: x[:, :, ::-1]),
            ("flip_vertical", lambda x: x[:, ::-1]),
            ("transpose", lambda x: x.swapaxes(1, 2)),
        ):
            if c[name]:
                batch = sometimes(keys[name], batch, c[name], function)
        return batch

    return change


def sometimes(key: jax.Array, batch: Batch, p: float, function: Callable) -> Batch:
    """`function` of the arrays of each picture with probability `p`."""
    chosen = jax.random.bernoulli(key, p, batch["label"].shape[:1])

    def change(x: jax.Array) -> jax.Array:
        return jnp.where(chosen.reshape(-1, *(1,) * (x.ndim - 1)), function(x), x)

    return _each(batch, change)


def crop(key: jax.Array, batch: Batch, size: int) -> Batch:
    """A square of `size` pixels of each picture, at a random place."""
    rows, columns = batch["label"].shape[1:3]
    most = jnp.array([rows - size + 1, columns - size + 1])
    corners = jax.random.randint(key, (len(batch["label"]), 2), 0, most)

    def change(x: jax.Array) -> jax.Array:
        def one(x: jax.Array, corner: jax.Array) -> jax.Array:
            rest = x.shape[2:]
            return jax.lax.dynamic_slice(x, (corner[0], corner[1], *(0 for _ in rest)), (size, size, *rest))

        return jax.vmap(one)(x, corners)

    return _each(batch, change)


def elastic(key: jax.Array, batch: Batch, std: float) -> Batch:
    """Moves the pixels smoothly (Ronneberger et al. 2015, section 3.1): displacements are normal, of `std` pixels, on a grid of
    3 x 3 points, with bicubic interpolation. What comes from outside of the picture is mirrored."""
    shape = batch["label"].shape
    moves = std * jax.random.normal(key, (shape[0], GRID, GRID, 2))
    return deform(batch, jax.image.resize(moves, (*shape, 2), "cubic"))


def deform(batch: Batch, moves: jax.Array) -> Batch:
    """A pixel takes what lies `moves` f32[B, Y, X, 2] (down, right) pixels away."""
    rows, columns = batch["label"].shape[1:3]
    at = jnp.stack(jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij"), -1) + moves

    def one(x: jax.Array, at: jax.Array) -> jax.Array:
        order = 0 if jnp.issubdtype(x.dtype, jnp.integer) else 1
        return map_coordinates(x, [at[..., 0], at[..., 1]], order, mode="mirror").astype(x.dtype)

    def change(x: jax.Array) -> jax.Array:
        sample = jax.vmap(one)
        return jax.vmap(sample, (3, None), 3)(x, at) if x.ndim == 4 else sample(x, at)

    return _each(batch, change)


def _each(batch: Batch, change: Callable) -> Batch:
    return {key: change(x) if key in ("image", "label", "weight") else x for key, x in batch.items()}

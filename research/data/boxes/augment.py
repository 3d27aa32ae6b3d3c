"""Random changes of pictures that carry their boxes along: pure functions of (key, batch), on the device.

A batch is {"image": f32[B, Y, X, C] in 0..1, "boxes": f32[B, M, 4], "labels": i32[B, M], "box_mask": f32[B, M]}, boxes as
(x1, y1, x2, y2) in pixels, and a mask of 1 for the boxes that do not fill up; other keys pass through.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from research.core.step import make_rngs
from research.data.images import augment as images
from research.util.errors import UserError, nearest

Batch = dict[str, jax.Array]

GREY = 0.5  # what comes from outside
LEAST_SEEN = 0.25  # share of a box that must stay inside the picture; else the box is none
OPTIONS = dict(
    mosaic=0.0,  # probability of a picture made of four
    flip=0.0,  # probability of mirroring left to right
    flip_vertical=0.0,  # and upside down
    scale=0.0,  # zoom, at most: 0.5 is from 1 / 1.5 to 1.5
    shift=0.0,  # shares of the sides, at most
    jitter=0.0,  # of brightness, contrast and saturation
)


def make(cfg: Mapping) -> Callable[[jax.Array, Batch], Batch]:
    """Returns `(key, batch) -> batch` with the options `cfg`, keys of OPTIONS. Raises UserError for one out of range."""
    if unknown := sorted(set(cfg) - set(OPTIONS)):
        raise UserError(f"augment.{unknown[0]} is unknown{nearest(unknown[0], OPTIONS)}")
    c = {**OPTIONS, **{key: value for key, value in cfg.items() if value is not None}}
    for name, value in c.items():
        if not 0 <= value <= (4 if name in ("scale", "jitter") else 1):
            raise UserError(f"augment.{name} = {value}: from 0 to {4 if name in ('scale', 'jitter') else 1}")

    def augment(key: jax.Array, batch: Batch) -> Batch:
        keys = make_rngs(key, *OPTIONS)
        if c["mosaic"]:
            batch = mosaic(keys["mosaic"], batch, c["mosaic"])
        if c["flip"]:
            batch = flip(keys["flip"], batch, c["flip"])
        if c["flip_vertical"]:
            batch = flip(keys["flip_vertical"], batch, c["flip_vertical"], vertical=True)
        if c["scale"] or c["shift"]:
            batch = move(keys["scale"], batch, c["scale"], c["shift"])
        if c["jitter"]:
            batch = images.jitter(keys["jitter"], batch, c["jitter"])
        return batch

    return augment


def flip(key: jax.Array, batch: Batch, p: float, vertical: bool = False) -> Batch:
    """Mirrors a picture left to right, or upside down, with probability `p`."""
    image, boxes = batch["image"], batch["boxes"]
    side = image.shape[1 if vertical else 2]
    mirrored = side - boxes[..., [0, 3, 2, 1] if vertical else [2, 1, 0, 3]]
    kept = [0, 2] if vertical else [1, 3]
    mirrored = mirrored.at[..., kept].set(boxes[..., kept])
    turn = jax.random.bernoulli(key, p, (len(image),))
    return {
        **batch,
        "image": jnp.where(turn[:, None, None, None], image[:, ::-1] if vertical else image[:, :, ::-1], image),
        "boxes": jnp.where(turn[:, None, None], mirrored, boxes),
    }


def move(key: jax.Array, batch: Batch, scale: float, shift: float) -> Batch:
    """Zooms by a factor between 1 / (1 + scale) and 1 + scale, its logarithm uniform, and shifts by shares of the sides."""
    image, boxes = batch["image"], batch["boxes"]
    sides = jnp.array(image.shape[1:3], jnp.float32)
    zoom_key, shift_key = jax.random.split(key)
    limit = jnp.log1p(scale)
    zoom = jnp.exp(jax.random.uniform(zoom_key, (len(image),), minval=-limit, maxval=limit))[:, None]
    shares = jax.random.uniform(shift_key, (len(image), 2), minval=-shift, maxval=shift)
    offset = (1 - zoom) * sides / 2 + shares * sides  # of rows and columns: about the centre

    def one(x: jax.Array, zoom: jax.Array, offset: jax.Array) -> jax.Array:
        method = dict(method="linear", antialias=False)
        return jax.image.scale_and_translate(x - GREY, x.shape, (0, 1), jnp.tile(zoom, 2), offset, **method) + GREY

    moved = boxes * zoom[..., None] + jnp.tile(offset[:, ::-1], 2)[:, None]
    return cut({**batch, "image": jax.vmap(one)(image, zoom, offset), "boxes": moved})


def mosaic(key: jax.Array, batch: Batch, p: float) -> Batch:
    """With probability `p` a picture becomes itself and the next three of the batch, each at half its size, two by two.

    Bochkovskiy et al. 2020 (2004.10934), but with tiles of one size: `move` zooms into them. There are 4 M boxes afterwards.
    Raises UserError, while it is traced, for a side of odd length.
    """
    image, boxes = batch["image"], batch["boxes"]
    B, Y, X, C = image.shape
    if Y % 2 or X % 2:
        raise UserError(f"augment.mosaic: pictures of {Y} x {X} pixels cannot be halved; make data.size even")
    half = image.reshape(B, Y // 2, 2, X // 2, 2, C).mean((2, 4))
    tiles = [jnp.roll(half, -i, 0) for i in range(4)]
    joined = jnp.concatenate([jnp.concatenate(tiles[:2], 2), jnp.concatenate(tiles[2:], 2)], 1)
    corners = [jnp.array([x, y, x, y], boxes.dtype) for y in (0, Y // 2) for x in (0, X // 2)]
    four = jnp.concatenate([jnp.roll(boxes / 2, -i, 0) + corner for i, corner in enumerate(corners)], 1)
    chosen = jax.random.bernoulli(key, p, (B,))

    def of_four(name: str) -> tuple[jax.Array, jax.Array]:
        x = batch[name]
        return jnp.concatenate([jnp.roll(x, -i, 0) for i in range(4)], 1), jnp.pad(x, ((0, 0), (0, 3 * x.shape[1])))

    alone = jnp.pad(boxes, ((0, 0), (0, 3 * boxes.shape[1]), (0, 0)))
    return {
        **batch,
        "image": jnp.where(chosen[:, None, None, None], joined, image),
        "boxes": jnp.where(chosen[:, None, None], four, alone),
        **{name: jnp.where(chosen[:, None], *of_four(name)) for name in ("labels", "box_mask")},
    }


def cut(batch: Batch) -> Batch:
    """Boxes cut at the picture's edges. One of which less than LEAST_SEEN, or less than a pixel, is left is masked."""
    boxes = batch["boxes"]
    Y, X = batch["image"].shape[1:3]
    inside = jnp.clip(boxes, 0, jnp.array([X, Y, X, Y], boxes.dtype))
    sides, before = inside[..., 2:] - inside[..., :2], boxes[..., 2:] - boxes[..., :2]
    seen = (sides.prod(-1) >= LEAST_SEEN * before.prod(-1)) & (sides.min(-1) >= 1)
    return {**batch, "boxes": inside, "box_mask": jnp.where(seen, batch["box_mask"], 0)}

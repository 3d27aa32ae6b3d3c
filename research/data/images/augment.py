"""Random augmentation of image batches, as pure functions of (key, batch) that can be jitted.

A batch is {"image": f32[B, Y, X, C] in 0..1, "label": i32[B] or soft f32[B, N], ...}; other keys
pass through. Random choices are independent for each image, except that mixup draws one weight per batch.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from research.data.defaults import AUGMENT
from research.util.errors import UserError, nearest

Batch = dict[str, jax.Array]

TRIES = 10  # candidates for a box, of which the first that fits is used


def make(cfg: Mapping, num_classes: int, train: bool = True) -> Callable[[jax.Array, Batch], Batch]:
    """Returns `(key, batch) -> batch`: crop, flip, erase, mixup, smooth and normalise, with the options `cfg`.

    `cfg` has any keys of AUGMENT; zero turns an augmentation off, and does not change the random choices of the
    others. `train=False` only normalises. Labels become soft f32[B, N] with mixup or smoothing.
    Raises UserError for an unknown option or a value out of range.
    """
    if unknown := sorted(set(cfg) - set(AUGMENT)):
        raise UserError(f"augment.{unknown[0]} is unknown{nearest(unknown[0], AUGMENT)}")
    c = {**AUGMENT, **cfg}
    _check(c)

    def augment(key: jax.Array, batch: Batch) -> Batch:
        if train:
            keys = jax.random.split(key, 4)
            if c["crop"]:
                batch = crop(keys[0], batch, c["crop"])
            if c["flip"]:
                batch = flip(keys[1], batch, c["flip"])
            if c["erase"]:
                batch = erase(keys[2], batch, c["erase"], c["erase_area"], c["erase_aspect"], c["erase_fill"])
            if c["mixup"] or c["smoothing"]:
                batch = soften(batch, num_classes)
            if c["mixup"]:
                batch = mixup(keys[3], batch, c["mixup"])
            if c["smoothing"]:
                batch = smooth(batch, c["smoothing"])
        return normalise(batch, c["mean"], c["std"])

    return augment


def crop(key: jax.Array, batch: Batch, pad: int) -> Batch:
    """Pads by `pad` black pixels on each side and crops to the original size at a random position."""
    image = batch["image"]
    padded = jnp.pad(image, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    corner = jax.random.randint(key, (len(image), 2), 0, 2 * pad + 1)
    slices = jax.vmap(lambda x, at: jax.lax.dynamic_slice(x, (at[0], at[1], 0), image.shape[1:]))
    return {**batch, "image": slices(padded, corner)}


def flip(key: jax.Array, batch: Batch, p: float = 0.5) -> Batch:
    """Mirrors an image left to right with probability `p`.

    >>> flip(jax.random.key(0), {"image": jnp.array([[[[0.0], [1.0]]]])}, p=1.0)["image"].ravel().tolist()
    [1.0, 0.0]
    """
    image = batch["image"]
    flipped = jax.random.bernoulli(key, p, (len(image), 1, 1, 1))
    return {**batch, "image": jnp.where(flipped, image[:, :, ::-1], image)}


def erase(
    key: jax.Array,
    batch: Batch,
    p: float,
    area: Sequence[float] = (0.02, 0.4),
    aspect: float = 0.3,
    fill: float | None = None,
) -> Batch:
    """Random erasing (Zhong et al. 2020, 1708.04896, algorithm 1): p, (sl, sh), r1.

    With probability `p` one box per image, its fraction of the image's area uniform in `area` and its
    height / width uniform in [aspect, 1/aspect], both rounded to whole pixels, becomes `fill` or,
    if None, uniform noise in 0..1. A box that does not fit is drawn again, at most TRIES times.
    """
    image = batch["image"]
    box_key, noise_key = jax.random.split(key)
    draw = partial(_box, shape=image.shape[1:3], p=p, area=area, aspect=aspect)
    box = jax.vmap(draw)(jax.random.uniform(box_key, (len(image), 2 * TRIES + 3)))[..., None]
    if fill is None:
        fill = jax.random.uniform(noise_key, image.shape, image.dtype)
    return {**batch, "image": jnp.where(box, fill, image)}


def _box(u: jax.Array, shape: tuple[int, int], p: float, area: Sequence[float], aspect: float) -> jax.Array:
    """Uniform numbers f32[2 * TRIES + 3] -> bool[Y, X], true inside the box, if any."""
    rows, columns = shape
    size, ratio, (on, top, left) = jnp.split(u, (TRIES, 2 * TRIES))
    size = (area[0] + (area[1] - area[0]) * size) * rows * columns
    ratio = aspect + (1 / aspect - aspect) * ratio
    heights, widths = jnp.round(jnp.sqrt(size * ratio)), jnp.round(jnp.sqrt(size / ratio))
    fits = (heights < rows) & (widths < columns)
    first = jnp.argmax(fits)
    height, width = heights[first], widths[first]
    y = jnp.arange(rows) - jnp.floor(top * (rows - height + 1))
    x = jnp.arange(columns) - jnp.floor(left * (columns - width + 1))
    inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))
    return inside & fits[first] & (on < p)


def soften(batch: Batch, num_classes: int) -> Batch:
    """Labels i32[B] -> one-hot f32[B, N]; soft labels are unchanged."""
    label = batch["label"]
    return batch if label.ndim == 2 else {**batch, "label": jax.nn.one_hot(label, num_classes)}


def mixup(key: jax.Array, batch: Batch, alpha: float) -> Batch:
    """Mixup (Zhang et al. 2018, 1710.09412, equation 1) of images and soft labels f32[B, N].

    Each row is mixed with the row before it: batches are already shuffled, and on several devices a
    shift communicates less than a permutation.
    """
    weight = jax.random.beta(key, alpha, alpha)

    def mix(x):
        return (weight * x + (1 - weight) * jnp.roll(x, 1, 0)).astype(x.dtype)

    return {**batch, "image": mix(batch["image"]), "label": mix(batch["label"])}


def smooth(batch: Batch, amount: float) -> Batch:
    """Label smoothing (Szegedy et al. 2016, 1512.00567, section 7) of soft labels f32[B, N].

    >>> smooth({"label": jnp.array([[1.0, 0.0]])}, 0.5)["label"].tolist()
    [[0.75, 0.25]]
    """
    label = batch["label"]
    return {**batch, "label": (1 - amount) * label + amount / label.shape[-1]}


def normalise(batch: Batch, mean: float | Sequence[float], std: float | Sequence[float]) -> Batch:
    """(image - mean) / std."""
    image = batch["image"]
    mean, std = jnp.asarray(mean, image.dtype), jnp.asarray(std, image.dtype)
    return {**batch, "image": (image - mean) / std}


def _check(c: Mapping) -> None:
    low, high = c["erase_area"]
    stds = c["std"] if isinstance(c["std"], Sequence) else [c["std"]]
    demands = {
        "crop": (c["crop"] >= 0, "0 or more pixels"),
        "flip": (0 <= c["flip"] <= 1, "a probability"),
        "erase": (0 <= c["erase"] <= 1, "a probability"),
        "erase_area": (0 < low <= high < 1, "two rising fractions between 0 and 1"),
        "erase_aspect": (0 < c["erase_aspect"] <= 1, "more than 0 and at most 1"),
        "mixup": (c["mixup"] >= 0, "0 or more"),
        "smoothing": (0 <= c["smoothing"] < 1, "0 or more and less than 1"),
        "std": (all(s > 0 for s in stds), "more than 0"),
    }
    for name, (holds, demand) in demands.items():
        if not holds:
            raise UserError(f"augment.{name} is {c[name]!r}; it must be {demand}")

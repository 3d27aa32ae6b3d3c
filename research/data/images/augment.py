"""Random augmentation of image batches, as pure functions of (key, batch) that can be jitted.

A batch is {"image": f32[B, Y, X, C] in 0..1, "label": i32[B] or soft f32[B, N], ...}; other keys
pass through. Random choices are independent for each image, except that mixup and CutMix draw one weight per batch.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from research.core.step import make_rngs
from research.data.defaults import AUGMENT
from research.data.images import randaugment
from research.util.errors import UserError, nearest

Batch = dict[str, jax.Array]

# What None is, for options that configs of earlier versions lack.
NONE = {
    "cutmix": 0.0,
    "resized_crop": 0.0,
    "rand_layers": 0,
    "rand_magnitude": 9.0,
    "rand_noise": 0.0,
    "jitter": 0.0,
    "pad": 0,
}

TRIES = 10  # candidates for a box, of which the first that fits is used


def make(cfg: Mapping, num_classes: int, train: bool = True) -> Callable[[jax.Array, Batch], Batch]:
    """Returns `(key, batch) -> batch` with the options `cfg`, in the order of the code: pad, crop, ..., smooth, normalise.

    `cfg` has any keys of AUGMENT; zero turns an augmentation off, and does not change the random choices of the
    others. `train=False` only pads and normalises. Labels become soft f32[B, N] with mixup, CutMix or smoothing.
    Raises UserError for an unknown option or a value out of range.
    """
    c = _options(cfg)

    def augment(key: jax.Array, batch: Batch) -> Batch:
        if c["pad"]:
            batch = pad(batch, c["pad"])
        if train:
            keys, named = jax.random.split(key, 4), make_rngs(key, "resized_crop", "rand", "jitter", "cutmix", "either")
            if c["resized_crop"]:
                batch = resized_crop(named["resized_crop"], batch, c["resized_crop"])
            if c["crop"]:
                batch = crop(keys[0], batch, c["crop"])
            if c["flip"]:
                batch = flip(keys[1], batch, c["flip"])
            if c["rand_layers"]:
                options = (c["rand_layers"], c["rand_magnitude"], c["rand_noise"], c["rand_operations"])
                batch = randaugment.randaugment(named["rand"], batch, *options)
            if c["jitter"]:
                batch = jitter(named["jitter"], batch, c["jitter"])
            if c["erase"]:
                batch = erase(keys[2], batch, c["erase"], c["erase_area"], c["erase_aspect"], c["erase_fill"])
            if c["mixup"] or c["cutmix"] or c["smoothing"]:
                batch = soften(batch, num_classes)
            batch = mix(keys[3], named["cutmix"], named["either"], batch, c["mixup"], c["cutmix"])
            if c["smoothing"]:
                batch = smooth(batch, c["smoothing"])
        return normalise(batch, c["mean"], c["std"])

    return augment


def make_views(cfg: Mapping, num_classes: int) -> Callable[[jax.Array], list[jax.Array]]:
    """Returns `images -> [images]`, padded and normalised: the views that `cfg["views"]` names, by default the image alone."""
    c, plain = _options(cfg), make(cfg, num_classes, train=False)

    def views(image: jax.Array) -> list[jax.Array]:
        out, margin = [image], c["crop"]
        if c["views"] == "crops":
            rows, columns = image.shape[1:3]
            padded = jnp.pad(image, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
            corners = [(margin, margin), *((y, x) for y in (0, 2 * margin) for x in (0, 2 * margin))]
            out = [padded[:, y : y + rows, x : x + columns] for y, x in corners]
        if c["views"]:
            out += [x[:, :, ::-1] for x in out]
        return [plain(None, {"image": x})["image"] for x in out]

    return views


def padded(cfg: Mapping, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape (Y, X, C) of images after `pad`. Raises UserError if the means or deviations are not of that many channels."""
    c, (rows, columns, channels) = _options(cfg), shape
    for key in ("mean", "std"):
        if isinstance(c[key], Sequence) and len(c[key]) != channels:
            raise UserError(
                f"augment.{key} = {c[key]} has {len(c[key])} numbers; the pictures have channels: {channels}"
            )
    return rows + 2 * c["pad"], columns + 2 * c["pad"], channels


def pad(batch: Batch, pixels: int) -> Batch:
    """`pixels` of black on each side."""
    return {**batch, "image": jnp.pad(batch["image"], ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))}


def resized_crop(key: jax.Array, batch: Batch, least: float, aspect: float = 3 / 4) -> Batch:
    """A random box of each image, scaled to the image's size (Szegedy et al. 2014, 1409.4842, section 6).

    Its share of the area is uniform in [least, 1] and the logarithm of width / height in that of [aspect, 1 / aspect], as in
    torchvision. A box that does not fit is drawn again; after TRIES the whole image is taken. Bilinear, antialiased.
    """
    image = batch["image"]
    rows, columns = image.shape[1:3]

    def one(u: jax.Array, x: jax.Array) -> jax.Array:
        size, ratio, (top, left) = jnp.split(u, (TRIES, 2 * TRIES))
        size = (least + (1 - least) * size) * rows * columns
        ratio = jnp.exp(jnp.log(aspect) * (1 - 2 * ratio))
        heights, widths = jnp.round(jnp.sqrt(size / ratio)), jnp.round(jnp.sqrt(size * ratio))
        fits = (heights <= rows) & (widths <= columns) & (heights >= 1) & (widths >= 1)
        first = jnp.argmax(fits)
        height, width = (
            jnp.where(fits.any(), sides[first], side) for sides, side in ((heights, rows), (widths, columns))
        )
        corner = jnp.floor(jnp.stack([top * (rows - height + 1), left * (columns - width + 1)]))
        return resample(x, corner, jnp.stack([height, width]))

    uniform = jax.random.uniform(key, (len(image), 2 * TRIES + 2))
    return {**batch, "image": jax.vmap(one)(uniform, image)}


def resample(image: jax.Array, corner: jax.Array, size: jax.Array) -> jax.Array:
    """The box of an image [Y, X, C] at `corner` (y, x), of `size` (height, width), scaled to the image's size."""
    scale = jnp.asarray(image.shape[:2]) / size
    return jax.image.scale_and_translate(image, image.shape, (0, 1), scale, -corner * scale, "linear").astype(
        image.dtype
    )


def jitter(key: jax.Array, batch: Batch, amount: float) -> Batch:
    """Brightness, contrast and saturation, in this order, each by a factor uniform in [max(0, 1 - amount), 1 + amount]."""
    image = batch["image"]
    factors = jax.random.uniform(key, (3, len(image)), minval=max(0.0, 1 - amount), maxval=1 + amount)
    x = image.astype(jnp.float32)
    for change, factor in zip((randaugment.brightness, randaugment.contrast, randaugment.colour), factors, strict=True):
        x = jax.vmap(change)(x, factor)
    return {**batch, "image": x.astype(image.dtype)}


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


def mix(
    mixup_key: jax.Array, cutmix_key: jax.Array, coin: jax.Array, batch: Batch, mixup_alpha: float, cutmix_alpha: float
) -> Batch:
    """Mixup, CutMix or, where neither alpha is 0, one of them by a coin for the whole batch."""
    if not cutmix_alpha:
        return mixup(mixup_key, batch, mixup_alpha) if mixup_alpha else batch
    cut = cutmix(cutmix_key, batch, cutmix_alpha)
    if not mixup_alpha:
        return cut
    mixed, heads = mixup(mixup_key, batch, mixup_alpha), jax.random.bernoulli(coin)
    return {**batch, **{key: jnp.where(heads, mixed[key], cut[key]) for key in ("image", "label")}}


def cutmix(key: jax.Array, batch: Batch, alpha: float) -> Batch:
    """CutMix (Yun et al. 2019, 1905.04899, equations 1 and 2) of images and soft labels f32[B, N].

    One box for the whole batch comes from the row before, as in `mixup`; its area, cut at the border, is that row's weight.
    """
    image = batch["image"]
    rows, columns = image.shape[1:3]
    weight_key, y_key, x_key = jax.random.split(key, 3)
    side = jnp.sqrt(1 - jax.random.beta(weight_key, alpha, alpha))

    def inside(key: jax.Array, n: int) -> jax.Array:
        length, centre = jnp.floor(n * side), jax.random.randint(key, (), 0, n)
        start = centre - length // 2
        return (jnp.arange(n) >= start) & (jnp.arange(n) < start + length)

    box = inside(y_key, rows)[:, None] & inside(x_key, columns)
    weight, label = box.mean(), batch["label"]
    label = ((1 - weight) * label + weight * jnp.roll(label, 1, 0)).astype(label.dtype)
    return {**batch, "image": jnp.where(box[..., None], jnp.roll(image, 1, 0), image), "label": label}


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


def _options(cfg: Mapping) -> dict:
    """All options: those of `cfg` over their defaults. None is the default. Raises UserError as `make` does."""
    if unknown := sorted(set(cfg) - set(AUGMENT)):
        raise UserError(f"augment.{unknown[0]} is unknown{nearest(unknown[0], AUGMENT)}")
    c = {**AUGMENT, **NONE, **{key: value for key, value in cfg.items() if value is not None}}
    _check(c)
    randaugment.check(c["rand_operations"])
    return c


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
        "cutmix": (c["cutmix"] >= 0, "0 or more"),
        "resized_crop": (0 <= c["resized_crop"] <= 1, "a fraction of the area"),
        "rand_layers": (c["rand_layers"] >= 0, "0 or more operations"),
        "rand_magnitude": (0 <= c["rand_magnitude"] <= randaugment.LARGEST, "from 0 to 10"),
        "rand_noise": (c["rand_noise"] >= 0, "0 or more"),
        "jitter": (0 <= c["jitter"], "0 or more"),
        "pad": (c["pad"] >= 0, "0 or more pixels"),
        "views": (
            c["views"] in (None, "flip", "crops") and (c["views"] != "crops" or c["crop"] > 0),
            "None, 'flip', or, with augment.crop above 0, 'crops'",
        ),
        "smoothing": (0 <= c["smoothing"] < 1, "0 or more and less than 1"),
        "std": (all(s > 0 for s in stds), "more than 0"),
    }
    for name, (holds, demand) in demands.items():
        if not holds:
            raise UserError(f"augment.{name} is {c[name]!r}; it must be {demand}")

"""SSD (Liu et al. 2016, 1512.02325): classes and offsets of default boxes of several shapes at each cell of several stages."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.detection import anchors, backbone, checks
from research.generation import boxes as generation
from research.losses import boxes as losses
from research.nn.convolution import conv
from research.util.errors import UserError

SCALES = (10.0, 5.0)  # of offsets: the inverse of the authors' "variances" 0.1 and 0.2


class SSD(nn.Module):
    """Pictures f[B, Y, X, C] -> of P default boxes the logits f[B, P, N + 1], the last class none, and offsets f[B, P, 4].

    The last `levels` stages of the backbone have default boxes. Sides are shares of the canvas's shorter side: of equally spaced
    scales from `smallest` to `largest`, one more than there are levels, a level has a square of its own scale, one of the mean
    (geometric) with the next, and for each of `ratios` an upright and a lying box of its own scale's area (section 2.2).
    """

    num_classes: int
    backbone: str = "residual"  # of `widths` and `blocks`; or efficientnet_lite0, which has its own
    widths: tuple[int, ...] = (16, 32, 64, 128, 128)  # of the stem and each stage: strides 2, 4, 8, 16 and 32
    blocks: int = 1  # of two convolutions, in each stage
    levels: int = 3  # with default boxes
    smallest: float = 0.1
    largest: float = 0.9
    ratios: tuple[float, ...] = (2.0, 3.0)  # of the longer side to the shorter

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        classes: list[jax.Array] = []
        offsets: list[jax.Array] = []
        for i, y in enumerate(backbone.stages(self, x, train)):
            for out, count, name in ((classes, self.num_classes + 1, "classes"), (offsets, 4, "offsets")):
                head = nn.Conv(
                    count * (2 + 2 * len(self.ratios)), (3, 3), padding=1, conv_general_dilated=conv, name=f"{name}{i}"
                )
                out.append(head(y).reshape(y.shape[0], -1, count))
        return jnp.concatenate(classes, 1), jnp.concatenate(offsets, 1)


class Loss(NamedTuple):
    """The keys of the config's `loss` group."""

    box: float = 1.0  # weight of the offsets; of the classes' it is 1
    overlap: float = 0.5  # IoU from which a default box is a true box's
    negatives: float = (
        3.0  # default boxes of no true box that are trained on, for each of one: those with the highest loss
    )


class Found(NamedTuple):
    """The keys of the config's `found` group."""

    keep: int = 100  # boxes of a picture
    overlap: float = 0.45  # IoU above which the worse of two boxes of a class is dropped


def check(model: SSD, loss: Loss, shape: tuple[int, int, int]) -> None:
    """Raises UserError if a key is out of range, or if the strides do not fit canvases of `shape`."""
    checks.levels(model, shape)
    checks.within("loss", loss, box=(0, 100), overlap=(0, 1), negatives=(0, 1_000))
    if not 0 < model.smallest <= model.largest:
        raise UserError(f"model.smallest = {model.smallest}: above 0, and up to model.largest = {model.largest}")
    if any(ratio <= 0 for ratio in model.ratios):
        raise UserError(f"model.ratios = {model.ratios}: above 0")


def default_boxes(model: SSD, shape: tuple[int, int]) -> np.ndarray:
    """f32[P, 4], in the order of the outputs, for canvases of `shape` (Y, X)."""
    scales = np.linspace(model.smallest, model.largest, model.levels + 1) * min(shape)
    ratios = np.sqrt([r for ratio in model.ratios for r in (ratio, 1 / ratio)])
    sizes = []
    for own, following in zip(scales[:-1], scales[1:], strict=True):
        squares = np.array([own, np.sqrt(own * following)])
        sides = [np.stack([squares, squares], -1), np.stack([own * ratios, own / ratios], -1)]
        sizes.append(np.concatenate(sides))
    return anchors.lay(shape, backbone.strides(model), sizes)


def loss(model: SSD, params: Any, model_state: Any, batch: Any, key: jax.Array, options: Loss) -> tuple:
    """A batch as `Boxes` has it -> the terms of classes and offsets, by the number of positive default boxes."""
    del key
    variables, mutable = {"params": params, **model_state}, list(model_state)
    (classes, offsets), model_state = model.apply(variables, batch["image"], train=True, mutable=mutable)
    defaults = default_boxes(model, batch["image"].shape[1:3])
    low = high = options.overlap
    matches = anchors.match(defaults, batch["boxes"], batch["box_mask"], low, high, each_box=True)
    true = jnp.take_along_axis(batch["boxes"], matches.box[..., None], 1)
    labels = jnp.where(matches.positive, jnp.take_along_axis(batch["labels"], matches.box, 1), model.num_classes)
    one_hot = jax.nn.one_hot(labels, model.num_classes + 1)
    entropy = -(one_hot * jax.nn.log_softmax(classes.astype(jnp.float32))).sum(-1)

    positives = matches.positive.sum(-1)  # [B]
    hardness = jnp.where(matches.negative, jax.lax.stop_gradient(entropy), -1)
    hard = anchors.highest(hardness, (options.negatives * positives).astype(jnp.int32))
    errors = losses.smooth_l1(offsets - anchors.encode(true, defaults, SCALES), 1.0).sum(-1)
    sums = {
        "classes": jnp.where(matches.positive | hard, entropy, 0).sum(),
        "boxes": jnp.where(matches.positive, errors, 0).sum(),
    }
    total = jnp.maximum(positives.sum().astype(jnp.float32), 1.0)
    terms = {"classes": (sums["classes"], total, 1.0), "boxes": (sums["boxes"], total, options.box)}
    metrics = {"loss": (sums["classes"] + options.box * sums["boxes"], total)}
    metrics |= {name: (value, total) for name, value in sums.items()}
    metrics["positive"] = (positives.sum().astype(jnp.float32), jnp.float32(len(classes)))
    return terms, (metrics, model_state)


def candidates(model: SSD, variables: Any, image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pictures f32[B, Y, X, C] in 0..1 -> a box on the canvas of each default box, f32[B, P, 4], and scores f32[B, P, N]."""
    classes, offsets = model.apply(variables, image)
    boxes = anchors.decode(offsets, default_boxes(model, image.shape[1:3]), SCALES)
    return boxes, jax.nn.softmax(classes.astype(jnp.float32))[..., :-1]


def predict(model: SSD, variables: Any, image: jax.Array, options: Found) -> generation.Found:
    """Pictures f32[B, Y, X, C] in 0..1 -> the best boxes on the canvas."""
    boxes, scores = candidates(model, variables, image)
    return generation.non_maximum_suppression(boxes, scores, options.overlap, options.keep, 4 * options.keep)

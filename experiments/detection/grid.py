"""An anchor-free grid: a head for classes beside a head for sides at each level of a pyramid, by task-aligned assignment."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.detection import backbone, checks
from research.generation import boxes as generation
from research.losses import boxes as losses

PRIOR = 0.01  # of a point's class before training: Lin et al. 2017 (1708.02002), section 4.1


class Grid(nn.Module):
    """Pictures f[B, Y, X, C] -> logits of the classes f[B, P, N] and of the sides' distances f[B, P, 4, R], R = bins.

    The P points are those of `points`. Stride 2 is the stem's, and each stage doubles it; the last `levels` stages have points.
    The heads are decoupled as YOLOX's (Ge et al. 2021, 2107.08430, section 2.1), and distances are distributions (Li et al.
    2020, 2006.04388).
    """

    num_classes: int
    backbone: str = "residual"  # of `widths` and `blocks`; or efficientnet_lite0, which has its own
    widths: tuple[int, ...] = (16, 32, 64, 128, 128)  # of the stem and each stage: strides 2, 4, 8, 16 and 32
    blocks: int = 1  # of two convolutions, in each stage
    levels: int = 3  # with points
    neck: int = 64  # channels of the pyramid and the heads
    head_layers: int = 1
    bins: int = 16  # distances 0..bins - 1, in strides

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        stages = backbone.stages(self, x, train)
        classes, sides = [], []
        for i, y in enumerate(backbone.pyramid(stages, train, self.neck)):
            a = b = y
            for j in range(self.head_layers):
                a = backbone.Unit(self.neck, name=f"classes{i}_{j}")(a, train)
                b = backbone.Unit(self.neck, name=f"sides{i}_{j}")(b, train)
            prior = nn.initializers.constant(float(np.log(PRIOR / (1 - PRIOR))))
            a = nn.Dense(self.num_classes, bias_init=prior, name=f"classes{i}")(a)
            b = nn.Dense(4 * self.bins, name=f"sides{i}")(b)
            B, Y, X, _ = y.shape
            classes.append(a.reshape(B, Y * X, self.num_classes))
            sides.append(b.reshape(B, Y * X, 4, self.bins))
        return jnp.concatenate(classes, 1), jnp.concatenate(sides, 1)


class Loss(NamedTuple):
    """The keys of the config's `loss` group."""

    box: float = 2.0  # weight of complete IoU; of the classes' it is 1
    distances: float = 0.25  # weight of the distributions of the sides' distances
    gamma: float = 2.0  # of the focal loss of classes; 0: binary cross-entropy
    top: int = 13  # points of a box, at most
    alpha: float = 1.0  # exponents of score and IoU in a point's alignment
    beta: float = 6.0


class Found(NamedTuple):
    """The keys of the config's `found` group."""

    keep: int = 100  # boxes of a picture
    overlap: float = 0.6  # IoU above which the worse of two boxes of a class is dropped


def check(model: Grid, loss: Loss, shape: tuple[int, int, int]) -> None:
    """Raises UserError if a key is out of range, or if the grid does not fit canvases of `shape`."""
    checks.levels(model, shape)
    checks.within(
        "loss", loss, top=(1, 1_000), gamma=(0, 10), box=(0, 100), distances=(0, 100), alpha=(0, 10), beta=(0, 10)
    )


def points(model: Grid, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The centres (x, y) of the cells of each level, f32[P, 2], and their strides, f32[P], for pictures of `shape` (Y, X)."""
    centres, sizes = [], []
    for stride in backbone.strides(model):
        y, x = np.mgrid[: shape[0] // stride, : shape[1] // stride]
        centres.append((np.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        sizes.append(np.full(x.size, stride))
    return np.concatenate(centres).astype(np.float32), np.concatenate(sizes).astype(np.float32)


def loss(model: Grid, params: Any, model_state: Any, batch: Any, key: jax.Array, options: Loss) -> tuple:
    """A batch as `Boxes` has it -> the terms of classes, boxes and distances, by the sum of the positive points' targets."""
    del key
    variables, mutable = {"params": params, **model_state}, list(model_state)
    (classes, sides), model_state = model.apply(variables, batch["image"], train=True, mutable=mutable)
    centres, strides = points(model, batch["image"].shape[1:3])
    predicted = generation.from_distances(sides, centres, strides)
    targets = losses.task_aligned(
        jax.nn.sigmoid(classes), predicted, centres, batch["boxes"], batch["labels"], batch["box_mask"],
        options.top, options.alpha, options.beta,
    )  # fmt: skip
    weights = targets.scores.sum(-1)  # [B, P]: 0 for a negative point
    total = jnp.maximum(weights.sum(), 1.0)
    offsets = jnp.concatenate([centres - targets.boxes[..., :2], targets.boxes[..., 2:] - centres], -1)
    distances = losses.distribution_focal(sides, offsets / strides[:, None]).mean(-1)
    sums = {
        "classes": losses.quality_focal(classes, targets.scores, options.gamma).sum(),
        "boxes": (weights * (1 - losses.ciou(predicted, targets.boxes))).sum(),
        "distances": (weights * distances).sum(),
    }
    coefficients = {"classes": 1.0, "boxes": options.box, "distances": options.distances}
    terms = {name: (value, total, coefficients[name]) for name, value in sums.items()}
    whole = sum(coefficients[name] * value for name, value in sums.items())
    metrics = {"loss": (whole, total), **{name: (value, total) for name, value in sums.items()}}
    metrics["positive"] = (targets.positive.sum().astype(jnp.float32), jnp.float32(len(classes)))
    return terms, (metrics, model_state)


def candidates(model: Grid, variables: Any, image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pictures f32[B, Y, X, C] in 0..1 -> a box on the canvas for each point, f32[B, P, 4], and its scores, f32[B, P, N]."""
    classes, sides = model.apply(variables, image)
    centres, strides = points(model, image.shape[1:3])
    return generation.from_distances(sides, centres, strides), jax.nn.sigmoid(classes)


def predict(model: Grid, variables: Any, image: jax.Array, options: Found) -> generation.Found:
    """Pictures f32[B, Y, X, C] in 0..1 -> the best boxes on the canvas."""
    boxes, scores = candidates(model, variables, image)
    return generation.non_maximum_suppression(boxes, scores, options.overlap, options.keep, 4 * options.keep)

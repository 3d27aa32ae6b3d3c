"""Faster R-CNN (Ren et al. 2015, 1506.01497) on a feature pyramid: boxes are proposed, then what lies in each is classified."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.detection import anchors, backbone, checks
from experiments.detection.roi_align import roi_align
from research.core.metrics import objective
from research.core.step import make_rngs
from research.generation import boxes as generation
from research.losses import boxes as losses
from research.nn.convolution import conv
from research.util.errors import UserError

PROPOSAL_SCALES = (1.0, 1.0)  # of offsets from anchors
REGION_SCALES = (10.0, 5.0)  # of offsets from proposals, in the authors' code
PROPOSAL_OVERLAP = 0.7  # IoU above which the worse of two proposals is dropped: section 3.3


class Outputs(NamedTuple):
    """Of P anchors and R regions.

    objects   f[B, P]: logits of there being an object
    moves     f[B, P, 4]: offsets from the anchors to boxes
    regions   f[B, R, 4]: boxes on the canvas
    real      f[B, R]: 1 for the regions that do not fill up
    classes   f[B, R, N + 1]: logits; the last class is none
    offsets   f[B, R, 4]: from the regions to boxes, the same for all classes
    """

    objects: jax.Array
    moves: jax.Array
    regions: jax.Array
    real: jax.Array
    classes: jax.Array
    offsets: jax.Array


class FasterRCNN(nn.Module):
    """Pictures f[B, Y, X, C] -> `Outputs`. The regions are the proposals, or what `choose` makes of them.

    A level of the pyramid has anchors of one size, `anchor` strides, in each of `ratios`, and one head proposes at all levels
    (Lin et al. 2017, 1612.03144, section 4.1). A region is pooled from the level whose anchors are nearest in size. Proposals
    pass no gradient.
    """

    num_classes: int
    backbone: str = "residual"  # of `widths` and `blocks`; or efficientnet_lite0, which has its own
    widths: tuple[int, ...] = (16, 32, 64, 128, 128)  # of the stem and each stage: strides 2, 4, 8, 16 and 32
    blocks: int = 1  # of two convolutions, in each stage
    levels: int = 3  # with anchors
    neck: int = 64  # channels of the pyramid
    anchor: float = 4.0
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height over width
    proposals: int = 64  # of a picture, after suppression; before it four times as many
    bins: int = 5  # a side, S, that a region is pooled to
    head: int = 128  # units in each of the two layers of the regions' head

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, choose: Callable | None = None) -> Outputs:
        stages = backbone.stages(self, x, train)
        pyramid = backbone.pyramid(stages, train, self.neck)
        objects, moves = self._propose(pyramid)
        regions, real = self._proposals(objects, moves, x.shape[1:3])
        if choose is not None:
            regions, real = choose(regions, real)
        return Outputs(objects, moves, regions, real, *self._classify(pyramid, regions))

    def _propose(self, pyramid: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
        small, A = nn.initializers.normal(0.01), len(self.ratios)
        hidden = nn.Conv(self.neck, (3, 3), padding=1, conv_general_dilated=conv, name="proposer")
        objects, moves = (nn.Dense(A * k, kernel_init=small, name=name) for name, k in (("objects", 1), ("moves", 4)))
        levels = [nn.relu(hidden(y)) for y in pyramid]
        return (
            jnp.concatenate([objects(y).reshape(y.shape[0], -1) for y in levels], 1),
            jnp.concatenate([moves(y).reshape(y.shape[0], -1, 4) for y in levels], 1),
        )

    def _proposals(self, objects: jax.Array, moves: jax.Array, shape: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
        objects, moves = jax.lax.stop_gradient((objects, moves))
        boxes = anchors.decode(moves, lay(self, shape), PROPOSAL_SCALES)
        boxes = jnp.clip(boxes, 0, jnp.array([*shape[::-1], *shape[::-1]], jnp.float32))
        found = generation.non_maximum_suppression(
            boxes, jax.nn.sigmoid(objects)[..., None], PROPOSAL_OVERLAP, self.proposals, 4 * self.proposals
        )
        return found.boxes, (found.scores > 0).astype(jnp.float32)

    def _classify(self, pyramid: list[jax.Array], regions: jax.Array) -> tuple[jax.Array, jax.Array]:
        sizes = self.anchor * np.array(strides := backbone.strides(self), np.float32)
        side = jnp.sqrt(jnp.maximum(losses.area(regions), 1))
        nearest = jnp.abs(jnp.log(side[..., None] / sizes)).argmin(-1)
        pooled = sum(
            roi_align(y, regions / stride, self.bins) * (nearest == i)[..., None, None, None]
            for i, (y, stride) in enumerate(zip(pyramid, strides, strict=True))
        )
        x = pooled.reshape(*regions.shape[:2], self.bins**2 * self.neck)
        for i in range(2):
            x = nn.relu(nn.Dense(self.head, kernel_init=nn.initializers.he_normal(), name=f"head{i}")(x))
        small = nn.initializers.normal(0.01)
        classes = nn.Dense(self.num_classes + 1, kernel_init=small, name="classes")(x)
        return classes, nn.Dense(4, kernel_init=small, name="offsets")(x)


class Loss(NamedTuple):
    """The keys of the config's `loss` group."""

    anchors: int = 64  # of a picture that are trained on, at most half of them positive
    anchor_low: float = 0.3  # IoU below which an anchor is negative
    anchor_high: float = 0.7  # and from which it is positive; the best of each box is, too
    regions: int = 32  # of a picture that are trained on, at most a quarter of them positive
    region_overlap: float = 0.5  # IoU from which a region is a box's
    box: float = 1.0  # weight of both losses of offsets; of the classes' it is 1


class Found(NamedTuple):
    """The keys of the config's `found` group."""

    keep: int = 100  # boxes of a picture
    overlap: float = 0.5  # IoU above which the worse of two boxes of a class is dropped


def check(model: FasterRCNN, loss: Loss, shape: tuple[int, int, int]) -> None:
    """Raises UserError if a key is out of range, or if the strides do not fit canvases of `shape`."""
    checks.levels(model, shape)
    checks.within("model", model, proposals=(1, 10_000), bins=(1, 100), anchor=(0.1, 1_000))
    checks.within("loss", loss, anchors=(2, 100_000), regions=(4, model.proposals), box=(0, 100))
    checks.within("loss", loss, anchor_low=(0, loss.anchor_high), anchor_high=(0, 1), region_overlap=(0, 1))
    if any(ratio <= 0 for ratio in model.ratios):
        raise UserError(f"model.ratios = {model.ratios}: above 0")


def lay(model: FasterRCNN, shape: tuple[int, int]) -> np.ndarray:
    """The anchors, f32[P, 4], in the order of the outputs, for canvases of `shape` (Y, X)."""
    strides, root = backbone.strides(model), np.sqrt(model.ratios)
    return anchors.lay(shape, strides, [model.anchor * stride * np.stack([1 / root, root], -1) for stride in strides])


def sample(key: jax.Array, matches: anchors.Matches, count: int, positive: int) -> tuple[jax.Array, jax.Array]:
    """`count` of each picture at random, at most `positive` of them positive -> the positive and negative ones, bool[B, P]."""
    draws = jax.random.uniform(key, matches.box.shape)
    positives = anchors.highest(jnp.where(matches.positive, draws, -1), jnp.full(len(draws), positive))
    return positives, anchors.highest(jnp.where(matches.negative, draws, -1), count - positives.sum(-1))


def choose(key: jax.Array, batch: Any, options: Loss, proposals: jax.Array, real: jax.Array) -> tuple:
    """The regions to train on: a sample of the proposals and the true boxes. Those that fill up have weight 0."""
    candidates = jnp.concatenate([proposals, batch["boxes"]], 1)
    real = jnp.concatenate([real, batch["box_mask"]], 1) > 0
    overlap = options.region_overlap
    matches = anchors.match(candidates, batch["boxes"], batch["box_mask"], overlap, overlap)
    matches = matches._replace(positive=matches.positive & real, negative=matches.negative & real)
    positives, negatives = sample(key, matches, options.regions, options.regions // 4)
    weights, places = jax.lax.top_k((positives | negatives).astype(jnp.float32), options.regions)
    return jnp.take_along_axis(candidates, places[..., None], 1), weights


def loss(model: FasterRCNN, params: Any, model_state: Any, batch: Any, key: jax.Array, options: Loss) -> tuple:
    """A batch as `Boxes` has it -> four terms: of objects and moves, by sampled anchors; of classes and offsets, by regions."""
    rngs = make_rngs(key, "anchors", "regions")
    boxes, real = batch["boxes"], batch["box_mask"]
    out, model_state = model.apply(
        {"params": params, **model_state}, batch["image"], train=True, mutable=list(model_state),
        choose=lambda proposals, known: choose(rngs["regions"], batch, options, proposals, known),
    )  # fmt: skip
    laid = lay(model, batch["image"].shape[1:3])
    matches = anchors.match(laid, boxes, real, options.anchor_low, options.anchor_high, each_box=True)
    positives, negatives = sample(rngs["anchors"], matches, options.anchors, options.anchors // 2)
    target = anchors.encode(_of_box(boxes, matches), laid, PROPOSAL_SCALES)
    entropy = optax.sigmoid_binary_cross_entropy(out.objects.astype(jnp.float32), positives.astype(jnp.float32))
    sums = {
        "objects": jnp.where(positives | negatives, entropy, 0).sum(),
        "moves": jnp.where(positives, losses.smooth_l1(out.moves - target, 1 / 9).sum(-1), 0).sum(),
    }
    overlap = options.region_overlap
    matches = anchors.match(out.regions, boxes, real, overlap, overlap)
    labels = jnp.where(matches.positive, jnp.take_along_axis(batch["labels"], matches.box, 1), model.num_classes)
    one_hot = jax.nn.one_hot(labels, model.num_classes + 1)
    entropy = -(one_hot * jax.nn.log_softmax(out.classes.astype(jnp.float32))).sum(-1)
    target = anchors.encode(_of_box(boxes, matches), out.regions, REGION_SCALES)
    errors = losses.smooth_l1(out.offsets - target, 1.0).sum(-1)
    sums["classes"] = (out.real * entropy).sum()
    sums["offsets"] = jnp.where(matches.positive, out.real * errors, 0).sum()

    sampled = {"anchors": (positives | negatives).sum().astype(jnp.float32), "regions": out.real.sum()}
    terms = {
        name: (sums[name], jnp.maximum(sampled[of], 1.0), weight)
        for name, of, weight in (
            ("objects", "anchors", 1.0), ("moves", "anchors", options.box),
            ("classes", "regions", 1.0), ("offsets", "regions", options.box),
        )
    }  # fmt: skip
    rows = jnp.float32(len(boxes))
    metrics = {name: term[:2] for name, term in terms.items()} | {"loss": (rows * objective(terms), rows)}
    metrics["positive"] = ((matches.positive & (out.real > 0)).sum().astype(jnp.float32), rows)
    return terms, (metrics, model_state)


def candidates(model: FasterRCNN, variables: Any, image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pictures f32[B, Y, X, C] in 0..1 -> a box on the canvas for each region, f32[B, R, 4], and its scores, f32[B, R, N]."""
    out = model.apply(variables, image)
    boxes = anchors.decode(out.offsets, out.regions, REGION_SCALES)
    return boxes, jax.nn.softmax(out.classes.astype(jnp.float32))[..., :-1] * out.real[..., None]


def predict(model: FasterRCNN, variables: Any, image: jax.Array, options: Found) -> generation.Found:
    """Pictures f32[B, Y, X, C] in 0..1 -> the best boxes on the canvas."""
    boxes, scores = candidates(model, variables, image)
    return generation.non_maximum_suppression(boxes, scores, options.overlap, options.keep, 4 * options.keep)


def _of_box(boxes: jax.Array, matches: anchors.Matches) -> jax.Array:
    """The box of each anchor or region, f[B, P, 4]."""
    return jnp.take_along_axis(boxes, matches.box[..., None], 1)

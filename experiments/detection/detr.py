"""DETR (Carion et al. 2020, 2005.12872): queries, each of which becomes a box or none, are matched one to one with the boxes.

Its queries are boxes that each layer of the decoder refines (Liu et al. 2022, 2201.12329, "DAB-DETR"): by that paper 50 epochs of
COCO then do what 500 do with learned vectors. Layers normalise first, as the authors' code has it by option.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.detection import backbone, checks
from research.core.metrics import objective
from research.generation import boxes as generation
from research.losses import boxes as losses
from research.losses.matching import linear_assignment
from research.nn.feed_forward import FeedForward
from research.util.errors import UserError

GLOROT = nn.initializers.xavier_uniform()
SIDE = 0.2  # of a query's box before training, as a share of the canvas
PERIOD = 20.0  # the longest wave of a position over the shortest: DAB-DETR's temperature


class DETR(nn.Module):
    """Pictures f[B, Y, X, C] -> of L decoder layers and Q queries the logits f[L, B, Q, N + 1] and boxes f[L, B, Q, 4].

    The last class is none. Boxes are (x, y, width, height), centres and sides as shares of the canvas. The encoder reads the
    finest of the pyramid's `levels`.
    """

    num_classes: int
    backbone: str = "residual"  # of `widths` and `blocks`; or efficientnet_lite0, which has its own
    widths: tuple[int, ...] = (16, 32, 64, 128, 128)  # of the stem and each stage: strides 2, 4, 8, 16 and 32
    blocks: int = 1  # of two convolutions, in each stage
    levels: int = 3  # stages in the pyramid
    width: int = 64  # of the transformer
    num_heads: int = 4
    mlp_width: int = 256
    encoder_layers: int = 2
    decoder_layers: int = 3
    queries: int = 50  # boxes of a picture, at most

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        stages = backbone.stages(self, x, train)
        memory = backbone.pyramid(stages, train, self.width)[0]
        B, Y, X, D = memory.shape
        grid = jnp.stack(jnp.mgrid[:Y, :X][::-1], -1).reshape(-1, 2) + 0.5  # (x, y) of the cells
        places, memory = sines(grid, D), memory.reshape(B, Y * X, D)
        for i in range(self.encoder_layers):
            memory = EncoderLayer(self.num_heads, self.mlp_width, name=f"encoder{i}")(memory, places)
        memory = nn.LayerNorm(name="encoder_norm")(memory)

        content = self.param("queries", nn.initializers.normal(1.0), (self.queries, D))
        box = self.param("query_boxes", _spread, (self.queries, 4))
        x, box = (jnp.broadcast_to(each, (B, *each.shape)) for each in (content, box))
        norm, head = nn.LayerNorm(name="decoder_norm"), nn.Dense(self.num_classes + 1, name="classes")
        move = MLP(4, nn.initializers.zeros, name="boxes")
        classes, boxes = [], []
        for i in range(self.decoder_layers):
            cells = nn.sigmoid(jax.lax.stop_gradient(box)) * jnp.array([X, Y, X, Y])
            x = DecoderLayer(self.num_heads, self.mlp_width, name=f"decoder{i}")(x, cells, memory, places)
            box = jax.lax.stop_gradient(box) + move(norm(x))
            classes.append(head(norm(x)))
            boxes.append(nn.sigmoid(box))
        return jnp.stack(classes), jnp.stack(boxes)


class EncoderLayer(nn.Module):
    """Self-attention of the cells f[B, S, D], whose positions f[S, D] are added to queries and keys; a feed-forward layer."""

    num_heads: int
    mlp_width: int

    @nn.compact
    def __call__(self, x: jax.Array, places: jax.Array) -> jax.Array:
        y = nn.LayerNorm(name="attention_norm")(x)
        x += Attention(self.num_heads, name="attention")(y + places, y + places, y)
        return x + _feed_forward(self.mlp_width)(nn.LayerNorm(name="norm")(x))


class DecoderLayer(nn.Module):
    """Queries f[B, Q, D] with boxes f[B, Q, 4], in cells: attention among them, and to the cells f[B, S, D] at `places` f[S, D].

    The score of a query and a cell is that of their contents plus that of their positions, which each head weighs by what the
    query holds (Meng et al. 2021, 2108.06152). Positions are not projected here: a query begins at its box.
    """

    num_heads: int
    mlp_width: int

    @nn.compact
    def __call__(self, x: jax.Array, box: jax.Array, memory: jax.Array, places: jax.Array) -> jax.Array:
        (B, Q, D), H = x.shape, self.num_heads
        centre = sines(box[..., :2], D)
        place = MLP(D, name="place")(jnp.concatenate([centre, sines(box[..., 2:], D)], -1))
        y = nn.LayerNorm(name="self_norm")(x)
        x += Attention(H, name="self_attention")(y + place, y + place, y)
        y = nn.LayerNorm(name="cross_norm")(x)
        weights = 1 + MLP(H * D, nn.initializers.zeros, name="weights")(y).reshape(B, Q, H, D)
        near = jnp.einsum("bqhd,bqd,sd->bhqs", weights, centre, places) * (D // H) ** -0.5
        x += Attention(H, name="cross_attention")(y, memory, memory, near)
        return x + _feed_forward(self.mlp_width)(nn.LayerNorm(name="norm")(x))


class Attention(nn.Module):
    """Attention of q f[B, Q, D] to k and v f[B, S, D], which may be of different inputs; `scores` f[B, H, Q, S] are added."""

    num_heads: int

    @nn.compact
    def __call__(self, q: jax.Array, k: jax.Array, v: jax.Array, scores: jax.Array | float = 0.0) -> jax.Array:
        D, K = q.shape[-1], q.shape[-1] // self.num_heads
        q, k, v = (
            nn.Dense(D, kernel_init=GLOROT, name=name)(x).reshape(*x.shape[:2], self.num_heads, K)
            for name, x in (("q", q), ("k", k), ("v", v))
        )
        weights = jax.nn.softmax(jnp.einsum("bqhk,bshk->bhqs", q, k) * K**-0.5 + scores)
        y = jnp.einsum("bhqs,bshk->bqhk", weights, v)
        return nn.Dense(D, kernel_init=GLOROT, name="out")(y.reshape(*y.shape[:2], D))


class MLP(nn.Module):
    """Vectors f[..., D] -> f[..., `width`], through a hidden layer of D units."""

    width: int
    last_init: Any = GLOROT

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = nn.relu(nn.Dense(x.shape[-1], kernel_init=GLOROT, name="hidden")(x))
        return nn.Dense(self.width, kernel_init=self.last_init, name="out")(hidden)


def sines(positions: jax.Array, width: int) -> jax.Array:
    """Positions (x, y) f[..., 2] -> sines and cosines f[..., width], of x and of y in halves; the width is a multiple of 4.

    The wavelengths are from 2 pi to 2 pi PERIOD.
    """
    waves = PERIOD ** -(jnp.arange(width // 4) / (width // 4))
    angles = positions[..., None] * waves  # [..., 2, width / 4]
    both = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
    return both.reshape(*positions.shape[:-1], width)


class Loss(NamedTuple):
    """The keys of the config's `loss` group."""

    l1: float = 5.0  # weight of the boxes' distance, sides and centres as shares of the canvas; of the classes' it is 1
    giou: float = 2.0  # weight of generalised IoU
    none: float = 0.1  # weight of a query that is matched with no box, among the classes


class Found(NamedTuple):
    """The keys of the config's `found` group."""

    keep: int = 100  # boxes of a picture, at most; of each query there is one


def check(model: DETR, loss: Loss, shape: tuple[int, int, int]) -> None:
    """Raises UserError if a key is out of range, or if the strides do not fit canvases of `shape`."""
    checks.levels(model, shape)
    checks.within("loss", loss, l1=(0, 100), giou=(0, 100), none=(0, 1))
    checks.within("model", model, queries=(1, 10_000), decoder_layers=(1, 100), encoder_layers=(0, 100))
    if model.width % model.num_heads or model.width % 4:
        raise UserError(f"model.width = {model.width}: a multiple of 4 and of model.num_heads = {model.num_heads}")


def match(
    classes: jax.Array, boxes: jax.Array, true: jax.Array, labels: jax.Array, real: jax.Array, options: Loss
) -> Any:
    """Logits f[B, Q, N + 1] and boxes f[B, Q, 4] against M true ones -> bool[B, M, Q]: which query is asked for which box.

    The cost is section 3.1's. `true` f[B, M, 4], `labels` i32[B, M], and `real`, 1 for the boxes that do not fill up.
    """
    one_hot = jax.nn.one_hot(labels, classes.shape[-1])
    cost = -jnp.einsum("bmn,bqn->bmq", one_hot, jax.nn.softmax(classes), precision="highest")
    cost += options.l1 * jnp.abs(true[:, :, None] - boxes[:, None]).sum(-1)
    cost -= options.giou * losses.giou(corners(true)[:, :, None], corners(boxes)[:, None])
    query = jax.vmap(linear_assignment)(cost, real > 0)
    return query[..., None] == jnp.arange(boxes.shape[1])


def corners(boxes: jax.Array) -> jax.Array:
    """(x, y, width, height) -> (x1, y1, x2, y2)."""
    return jnp.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def layer_sums(
    classes: jax.Array, boxes: jax.Array, true: jax.Array, labels: jax.Array, real: jax.Array, options: Loss
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Of one decoder's layer -> (sum, weight) of cross-entropy, by the queries' weights, and of L1 and GIoU, by boxes."""
    matched = match(classes, boxes, true, labels, real, options).astype(jnp.float32)
    num_classes = classes.shape[-1] - 1
    targets = jnp.einsum("bmq,bmn->bqn", matched, jax.nn.one_hot(labels, num_classes), precision="highest")
    none = 1 - targets.sum(-1, keepdims=True)
    weights = jnp.where(none[..., 0] > 0, options.none, 1.0)
    entropy = -(jnp.concatenate([targets, none], -1) * jax.nn.log_softmax(classes)).sum(-1)
    mine, count = jnp.einsum("bmq,bqf->bmf", matched, boxes, precision="highest"), matched.sum((1, 2))
    asked = matched.sum(-1)  # [B, M]: 1 for a box with a query
    return {
        "classes": ((weights * entropy).sum(), weights.sum()),
        "l1": ((asked * jnp.abs(mine - true).sum(-1)).sum(), count.sum()),
        "giou": ((asked * (1 - losses.giou(corners(mine), corners(true)))).sum(), count.sum()),
    }


def loss(model: DETR, params: Any, model_state: Any, batch: Any, key: jax.Array, options: Loss) -> tuple:
    """A batch as `Boxes` has it -> the terms of classes, L1 and GIoU: each the sum over the decoder's layers of its means."""
    del key
    variables, mutable = {"params": params, **model_state}, list(model_state)
    (classes, boxes), model_state = model.apply(variables, batch["image"], train=True, mutable=mutable)
    Y, X = batch["image"].shape[1:3]
    low, high = batch["boxes"][..., :2], batch["boxes"][..., 2:]
    true = jnp.concatenate([(low + high) / 2, high - low], -1) / jnp.array([X, Y, X, Y])
    sums = jax.vmap(partial(layer_sums, options=options), (0, 0, None, None, None))(
        classes.astype(jnp.float32), boxes.astype(jnp.float32), true, batch["labels"], batch["box_mask"]
    )
    coefficients = {"classes": 1.0, "l1": options.l1, "giou": options.giou}
    # As many boxes are matched in each layer, so the weights of the layers are alike.
    terms = {
        name: (value.sum(), jnp.maximum(weight[0], 1.0), coefficients[name]) for name, (value, weight) in sums.items()
    }
    rows = jnp.float32(len(true))
    metrics = {name: (value[-1], weight[-1]) for name, (value, weight) in sums.items()}  # of the last layer
    return terms, (metrics | {"loss": (rows * objective(terms), rows)}, model_state)


def candidates(model: DETR, variables: Any, image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pictures f32[B, Y, X, C] in 0..1 -> a box on the canvas for each query, f32[B, Q, 4], and its scores, f32[B, Q, N]."""
    classes, boxes = (x[-1].astype(jnp.float32) for x in model.apply(variables, image))
    Y, X = image.shape[1:3]
    return corners(boxes) * jnp.array([X, Y, X, Y]), jax.nn.softmax(classes)[..., :-1]


def predict(model: DETR, variables: Any, image: jax.Array, options: Found) -> generation.Found:
    """Pictures f32[B, Y, X, C] in 0..1 -> the best boxes on the canvas: of each query its best class, without suppression."""
    boxes, scores = candidates(model, variables, image)
    best, order = jax.lax.top_k(scores.max(-1), min(options.keep, model.queries))
    labels = jnp.take_along_axis(scores.argmax(-1), order, 1)
    return generation.Found(jnp.take_along_axis(boxes, order[..., None], 1), labels, best)


def _feed_forward(width: int) -> FeedForward:
    return FeedForward(width, "relu", bias=True, kernel_init=GLOROT, out_init=GLOROT, name="feed_forward")


def _spread(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Logits of boxes with sides of SIDE, whose centres are uniform."""
    centres = jax.random.uniform(key, (shape[0], 2), minval=0.02, maxval=0.98)
    return jax.scipy.special.logit(jnp.concatenate([centres, jnp.full((shape[0], 2), SIDE)], -1))

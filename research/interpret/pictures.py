"""Attributions of a model's score to the pixels of a picture: saliency, integrated gradients, occlusion, Grad-CAM, rollout.

A score is a pure function f[B, Y, X, C] -> f[B] whose rows are independent: the logit of a class, say. A map is f32[B, Y, X]. A
clip is f[B, T, Y, X, C], and has a map for each frame, f32[B, T, Y, X].

Sources: saliency, Simonyan et al. 2014 (1312.6034), section 3.1; integrated gradients, Sundararajan et al. 2017 (1703.01365);
occlusion, Zeiler & Fergus 2014 (1311.2901), section 4.2; Grad-CAM, Selvaraju et al. 2017 (1610.02391), eq. 1 and 2; attention
rollout, Abnar & Zuidema 2020 (2005.00928), section 3; randomised weights, Adebayo et al. 2018 (1810.03292).
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

from research.interpret import attention
from research.util.errors import UserError

Score = Callable[[jax.Array], jax.Array]


class Map(NamedTuple):
    """A map f32[B, ..., Y, X], the score f32[B] of the picture (None: a map of no score) and, with a baseline, of the baseline.

    By completeness the map of integrated gradients sums to score - baseline; `gap` f32[B] is the difference.
    """

    pixels: jax.Array
    score: jax.Array | None
    baseline: jax.Array | None = None
    gap: jax.Array | None = None


def saliency(score: Score, image: jax.Array) -> Map:
    """The largest magnitude, over channels, of the score's gradient: what changes the score fastest."""
    gradient, value = _gradient(score, image)
    return Map(jnp.abs(gradient).max(-1), value)


def integrated_gradients(score: Score, image: jax.Array, baseline: float = 0.0, steps: int = 64) -> Map:
    """The mean gradient on the straight line from a plain picture to this one, times their difference, summed over channels.

    The mean is approximated by the midpoint rule with `steps` points. Raises UserError if `steps` is below 1.
    """
    if steps < 1:
        raise UserError(f"steps = {steps}: at least 1")
    image = jnp.asarray(image)
    start = jnp.full_like(image, baseline)
    at = jax.jit(lambda part: _gradient(score, start + part * (image - start))[0])
    total = sum(at((i + 0.5) / steps) for i in range(steps))
    pixels = (total / steps * (image - start)).astype(jnp.float32).sum(-1)
    last, first = (jax.jit(score)(x).astype(jnp.float32) for x in (image, start))
    return Map(pixels, last, first, pixels.reshape(len(pixels), -1).sum(1) - (last - first))


def occlusion(score: Score, image: jax.Array, size: int, baseline: float = 0.0, stride: int | None = None) -> Map:
    """By how much the score falls when a square of `size` pixels has one value: the mean over the squares that cover a pixel.

    Squares are `stride` pixels apart, by default half of `size`, and the last of a row or column ends at the border. In a clip
    a square covers one frame. Raises UserError for a square that is larger than the picture.
    """
    image = jnp.asarray(image)
    rows, columns = image.shape[-3:-1]
    if not 1 <= size <= min(rows, columns):
        raise UserError(f"a square of {size} pixels does not fit into {rows} x {columns}")
    stride = max(1, size // 2) if stride is None else stride
    frames = image.reshape(len(image), -1, *image.shape[-3:])

    @jax.jit
    def without(frame: jax.Array, top: jax.Array, left: jax.Array) -> jax.Array:
        inside = (jnp.arange(rows)[:, None] - top) // size == 0
        inside &= (jnp.arange(columns) - left) // size == 0
        inside &= (jnp.arange(frames.shape[1]) == frame)[:, None, None]
        return score(jnp.where(inside[..., None], baseline, frames).reshape(image.shape))

    value = jax.jit(score)(image).astype(jnp.float32)
    total, count = np.zeros(frames.shape[:-1], np.float32), np.zeros((rows, columns), np.float32)
    for square in squares(rows, columns, size, stride):
        count[square] += 1
        for frame in range(frames.shape[1]):
            changed = without(frame, *(side.start for side in square))
            total[(slice(None), frame, *square)] += np.asarray(value - changed)[:, None, None]
    return Map(jnp.asarray(total / count).reshape(image.shape[:-1]), value)


def squares(rows: int, columns: int, size: int, stride: int) -> list[tuple[slice, slice]]:
    """The squares of `size` pixels, `stride` apart, that cover a picture.

    >>> [square[1].start for square in squares(2, 6, size=2, stride=3)]
    [0, 3, 4]
    """

    def starts(length: int) -> list[int]:
        return sorted({*range(0, length - size, stride), length - size})

    return [(slice(top, top + size), slice(left, left + size)) for top in starts(rows) for left in starts(columns)]


def grad_cam(score: Score, image: jax.Array, features: str = "") -> Map:
    """The last feature maps, weighted by their mean gradients, where their sum is positive; enlarged to the picture.

    The maps are the output f[B, y, x, K] (of a clip f[B, t, y, x, K]) of a Linen layer that has more than one row and column,
    before an activation that no layer has: of the layers whose paths match the regular expression `features` the last one on
    which the score depends. Raises UserError if the model has none.
    """
    image = jnp.asarray(image)
    shapes = jax.eval_shape(lambda: _feature_maps(score, image, features)[1])
    if not shapes:
        raise UserError(
            "the model has no layer whose output is a map of features: Grad-CAM needs a convolutional network"
        )

    def total(shifts):
        value, maps = _feature_maps(score, image, features, shifts)
        return value.sum(), (value, maps)

    shifts = [jnp.zeros(each.shape, each.dtype) for each in shapes]
    gradients, (value, maps) = jax.jit(jax.grad(total, has_aux=True))(shifts)
    used = [i for i, gradient in enumerate(gradients) if gradient.any()]
    last = used[-1] if used else -1
    weights = gradients[last].astype(jnp.float32).mean(tuple(range(1, image.ndim - 1)), keepdims=True)
    small = jax.nn.relu((weights * maps[last].astype(jnp.float32)).sum(-1))
    return Map(jax.image.resize(small, image.shape[:-1], "linear"), value)


def attention_rollout(predict: Callable[[jax.Array], Any], model: nn.Module, variables: Any, image: jax.Array) -> Map:
    """The share of each patch in what the head reads, if only attention mixed the tokens; enlarged to the picture.

    `predict(image)` applies the model, by any of its methods, whose own input may be a changed picture. The map is of no class.
    Raises UserError if the model has no attention.
    """
    picture, method = _first_call(predict, jnp.asarray(image))
    layers = attention.maps(model, variables, picture, method=method)
    if not layers:
        raise UserError("the model has no attention: a rollout needs a transformer, such as model.name = 'vit'")
    flow, pool = attention.rollout(layers), getattr(model, "pool", "mean")
    if pool == "token":
        shares = flow[:, 0, 1:]
    else:
        weights = np.full(flow.shape[:2], 1 / flow.shape[1]) if pool == "mean" else _pool(model, variables, picture)
        shares = np.einsum("bt,bts->bs", weights, flow)
    rows = round((shares.shape[1] * picture.shape[1] / picture.shape[2]) ** 0.5)
    small = jnp.asarray(shares.reshape(len(shares), rows, -1), jnp.float32)
    return Map(jax.image.resize(small, image.shape[:3], "linear"), None)


def randomised(variables: Any, key: jax.Array) -> Any:
    """Variables whose parameters are normal, each array with the mean and the deviation that it had.

    A map that does not change with them tells of the picture alone, and not of the model.
    """
    leaves, structure = jax.tree.flatten(variables["params"])
    keys = jax.random.split(key, len(leaves))
    drawn = [x.mean() + x.std() * jax.random.normal(k, x.shape, x.dtype) for x, k in zip(leaves, keys, strict=True)]
    return {**variables, "params": jax.tree.unflatten(structure, drawn)}


def similarity(a: jax.Array, b: jax.Array) -> float:
    """Spearman's rank correlation of two maps, with their signs; 0 if one of them is constant.

    Of magnitudes it would be high for any two maps that are a product with the picture, whose background is 0 in both.
    """
    a, b = np.ravel(a), np.ravel(b)
    return 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else float(spearmanr(a, b).statistic)


def _gradient(score: Score, image: Any) -> tuple[jax.Array, jax.Array]:
    def total(x):
        value = score(x)
        return value.sum(), value

    gradient, value = jax.grad(total, has_aux=True)(jnp.asarray(image))
    return gradient.astype(jnp.float32), value.astype(jnp.float32)


def _feature_maps(
    score: Score, image: jax.Array, features: str, shifts: list[jax.Array] | None = None
) -> tuple[jax.Array, list[jax.Array]]:
    """-> the score, and the maps of the layers `features` as they come; to each its shift has been added, after it was noted."""
    maps: list[jax.Array] = []

    def intercept(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if not isinstance(out, jax.Array) or out.ndim != image.ndim or min(out.shape[-3:-1]) < 2:
            return out
        if not re.search(features, "/".join(context.module.path)):
            return out
        maps.append(out)
        return out if shifts is None else out + shifts[len(maps) - 1]

    with nn.intercept_methods(intercept):
        return score(image), maps


def _first_call(predict: Callable[[jax.Array], Any], image: jax.Array) -> tuple[jax.Array, str]:
    """The first argument and the method of the outermost module that `predict` applies first."""
    calls: list[tuple[jax.Array, str]] = []

    def intercept(call, args, kwargs, context):
        if context.module.path == () and args:
            calls.append((args[0], context.method_name))
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        predict(image)
    return calls[0]


def _pool(model: nn.Module, variables: Any, picture: jax.Array) -> np.ndarray:
    """The weights f32[B, T] of a sequence's pooling, whose logits are the output of the layer "pool"."""
    options = dict(mutable=["intermediates"], capture_intermediates=lambda module, _: module.name == "pool")
    _, seen = model.apply(variables, picture, **options)
    logits = seen["intermediates"]["pool"]["__call__"][0][..., 0]
    return np.asarray(jax.nn.softmax(logits.astype(jnp.float32)))

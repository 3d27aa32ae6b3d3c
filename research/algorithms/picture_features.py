"""Networks whose features say how far apart two pictures are (research/evals/feature_distance.py).

classifier          the small network that judges samples (sample_metrics.py), trained on the same training pictures, after
                    each of its two convolutions
efficientnet_lite0  ImageNet's published weights, at strides 2, 4 and 8: later layers of a picture of 32 pixels have few places
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict

from research.algorithms import sample_metrics
from research.data.images import labelled
from research.interop import published, weights
from research.models.vision import efficientnet
from research.nn.from_config import choose
from research.util.errors import UserError

# Pictures f32[B, Y, X, C] in 0..1 -> the features of each layer, f32[B, _, _, _]
Network = Callable[[jax.Array], list[jax.Array]]
LAYERS = 3  # of EfficientNet-Lite0's sizes


def make(name: str, images: labelled.Images | None) -> Network:
    """A network of this module's by its name; `images` are the classes' pictures, if there are any.

    Its parameters are trained or read at the first call. Raises UserError for an unknown name, or a classifier without classes.
    """
    return choose({"classifier": _classifier, "efficientnet_lite0": _efficientnet}, name, "features")(images)


def _classifier(images: labelled.Images | None) -> Network:
    if images is None:
        raise UserError("features = 'classifier' needs pictures that have classes; use efficientnet_lite0, or None")
    model = sample_metrics.judge(images)

    @jax.jit
    def apply(params: Any, x: jax.Array) -> list[jax.Array]:
        _, captured = model.apply({"params": params}, x, capture_intermediates=True)
        return [jax.nn.relu(captured["intermediates"][layer]["__call__"][0]) for layer in ("conv1", "conv2")]

    params = functools.cache(lambda: sample_metrics.trained_judge(model, images))
    return lambda x: apply(params(), x)


def _efficientnet(images: labelled.Images | None) -> Network:
    del images
    name = "efficientnet_lite0"

    @functools.cache
    def variables() -> Any:
        source = weights.read(name, published.WEIGHTS[name].module)
        return unflatten_dict(dict(source.arrays), sep="/")

    @jax.jit
    def apply(variables: Any, x: jax.Array) -> list[jax.Array]:
        colour = jnp.broadcast_to(x, (*x.shape[:3], 3))  # a grey picture's three colours are one
        return efficientnet.Features().apply(variables, colour)[:LAYERS]

    return lambda x: apply(variables(), x)

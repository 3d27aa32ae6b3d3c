"""Fixed networks whose features say how far apart two pictures are, or what is of one style (research/losses/style.py).

classifier          the small network that judges samples (sample_metrics.py), trained on the same training pictures, after
                    each of its two convolutions
efficientnet_lite0  ImageNet's published weights, at strides 2, 4 and 8: later layers of a picture of 32 pixels have few places
random              three convolutions at random values, at strides 1, 2 and 4: filters need not be learnt to tell textures
                    apart (Ustyuzhaninov et al. 2016, 1606.00021; He, Wang and Hopcroft 2016, 1606.04801)
"""

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from research.algorithms import sample_metrics
from research.data.images import labelled
from research.interop import published, weights
from research.models.vision import efficientnet
from research.nn.from_config import choose
from research.util.errors import UserError

# Pictures f32[B, Y, X, C] in 0..1 -> the features of each layer, f32[B, _, _, _]
Network = Callable[[jax.Array], list[jax.Array]]
SIZES = 3  # of EfficientNet-Lite0's features


def make(name: str, images: labelled.Images | None) -> Network:
    """A network of this module's by its name; `images` are the classes' pictures, if there are any.

    Its parameters are trained or read at the first call. Raises UserError for an unknown name, or a classifier without classes.
    """
    networks = {"classifier": _classifier, "efficientnet_lite0": _efficientnet, "random": _random}
    return choose(networks, name, "features")(images)


def outside(compute: Callable[[], Any]) -> Any:
    """What `compute` returns, in a thread of its own: there no trace and no mesh is under way, which are a thread's."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(compute).result()


def _classifier(images: labelled.Images | None) -> Network:
    if images is None:
        raise UserError("features = 'classifier' needs pictures that have classes; use efficientnet_lite0, or None")
    model = sample_metrics.judge(images)

    @jax.jit
    def apply(params: Any, x: jax.Array) -> list[jax.Array]:
        _, captured = model.apply({"params": params}, x, capture_intermediates=True)
        return [jax.nn.relu(captured["intermediates"][layer]["__call__"][0]) for layer in ("conv1", "conv2")]

    params = functools.cache(lambda: outside(lambda: sample_metrics.trained_judge(model, images)))
    return lambda x: apply(params(), x)


def _efficientnet(images: labelled.Images | None) -> Network:
    del images
    name = "efficientnet_lite0"
    return _fixed(efficientnet.Features(SIZES), lambda: weights.read(name, published.WEIGHTS[name].module).arrays)


def _random(images: labelled.Images | None) -> Network:
    del images
    model = RandomFilters()
    return _fixed(model, lambda: flatten_dict(model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))), sep="/"))


def _fixed(model: nn.Module, load: Callable[[], Mapping[str, Any]]) -> Network:
    """A network of colour pictures, whose arrays `load` has by path."""

    @functools.cache
    def variables() -> Any:
        return outside(lambda: jax.device_get(unflatten_dict(dict(load()), sep="/")))

    @jax.jit
    def apply(variables: Any, x: jax.Array) -> list[jax.Array]:
        return model.apply(variables, jnp.broadcast_to(x, (*x.shape[:3], 3)))  # a grey picture's three colours are one

    return lambda x: apply(variables(), x)


class RandomFilters(nn.Module):
    """Pictures f[B, Y, X, 3] -> features at full, half and quarter size."""

    channels: tuple[int, ...] = (32, 64, 64)

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        outputs, x = [], x - 0.5
        for i, channels in enumerate(self.channels):
            x = nn.avg_pool(x, (2, 2), (2, 2), "SAME") if i else x
            init = dict(kernel_init=nn.initializers.he_normal(), bias_init=nn.initializers.normal(0.1))
            x = nn.relu(nn.Conv(channels, (3, 3), **init, name=f"conv{i}")(x))
            outputs.append(x)
        return outputs

"""Inception v3 (Szegedy et al. 2015, 1512.00567): large convolutions as several small ones, side by side.

The layers, and what of them has no padding, are those of the authors' released network, which torchvision has, too: 23,834,568
parameters at 1,000 classes, and 27,161,264 with the auxiliary head. Its pictures are of 299 x 299. The initial values are He's.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.nn.convolution import Convolution
from research.util.errors import UserError

SHARDING = {"fsdp": ((r"kernel$", "fsdp"),)}

# A layer is (channels, rows, columns) of its kernels, or a pair that stands side by side. A module is its branches by name.
Kernels = tuple[int, int, int]
Branches = tuple[tuple[str, tuple[Any, ...]], ...]


def _figure5(pooled: int) -> Branches:
    """A 5 x 5 convolution, and the same as two of 3 x 3."""
    return (
        ("1x1", ((64, 1, 1),)),
        ("5x5", ((48, 1, 1), (64, 5, 5))),
        ("3x3_double", ((64, 1, 1), (96, 3, 3), (96, 3, 3))),
        ("pool", ((pooled, 1, 1),)),
    )


def _figure6(inner: int) -> Branches:
    """7 x 7 convolutions as 1 x 7 and 7 x 1."""
    row, column = (inner, 1, 7), (inner, 7, 1)
    return (
        ("1x1", ((192, 1, 1),)),
        ("7x7", ((inner, 1, 1), row, (192, 7, 1))),
        ("7x7_double", ((inner, 1, 1), column, row, column, (192, 1, 7))),
        ("pool", ((192, 1, 1),)),
    )


_SIDES = ((384, 1, 3), (384, 3, 1))
_FIGURE7: Branches = (
    ("1x1", ((320, 1, 1),)),
    ("3x3", ((384, 1, 1), _SIDES)),
    ("3x3_double", ((448, 1, 1), (384, 3, 3), _SIDES)),
    ("pool", ((192, 1, 1),)),
)
MODULES: dict[str, Branches] = {
    "5b": _figure5(32),
    "5c": _figure5(64),
    "5d": _figure5(64),
    "6a": (("3x3", ((384, 3, 3),)), ("3x3_double", ((64, 1, 1), (96, 3, 3), (96, 3, 3))), ("pool", ())),
    "6b": _figure6(128),
    "6c": _figure6(160),
    "6d": _figure6(160),
    "6e": _figure6(192),
    "7a": (
        ("3x3", ((192, 1, 1), (320, 3, 3))),
        ("7x7_3x3", ((192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3))),
        ("pool", ()),
    ),
    "7b": _FIGURE7,
    "7c": _FIGURE7,
}
REDUCING = ("6a", "7a")
SMALLEST = 75, 299  # pixels of a side, without and with the auxiliary head, whose 5 x 5 convolution has no padding


def named(branch: str, layers: tuple) -> list[dict[str, Kernels]]:
    """The layers of a branch by name, those that are side by side together: `3x3_1`, then `3x3_2a` and `3x3_2b`."""
    found = []
    for i, layer in enumerate(layers, 1):
        name = f"{branch}_{i}" if len(layers) > 1 else branch
        pair = isinstance(layer[0], tuple)
        found.append({f"{name}a": layer[0], f"{name}b": layer[1]} if pair else {name: layer})
    return found


class Module(nn.Module):
    """Branches side by side. Where it `reduces`, the last layer of each halves the sides, and the pooling is of the largest."""

    branches: Branches
    reduces: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X I"], train: bool) -> Float[Array, "B _ _ O"]:
        outputs = []
        for branch, layers in self.branches:
            y = x
            if branch == "pool":
                y = nn.max_pool(x, (3, 3), (2, 2)) if self.reduces else nn.avg_pool(x, (3, 3), padding=((1, 1), (1, 1)))
            for i, sides in enumerate(named(branch, layers), 1):
                options = {"stride": 2, "padding": "VALID"} if self.reduces and i == len(layers) else {}
                sides = [Convolution(C, kernel, **options, name=name)(y, train) for name, (C, *kernel) in sides.items()]
                y = jnp.concatenate(sides, -1)
            outputs.append(y)
        return shard_activations(jnp.concatenate(outputs, -1))


class AuxiliaryHead(nn.Module):
    """Mean-pooling of 5 x 5, 1x1 and 5x5 convolution, and the mean of what is left."""

    num_classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X I"], train: bool) -> Float[Array, "B N"]:
        x = Convolution(128, 1, name="conv1")(nn.avg_pool(x, (5, 5), (3, 3)), train)
        x = Convolution(768, 5, padding="VALID", name="conv2")(x, train)
        return nn.Dense(self.num_classes, name="head")(x.mean((1, 2)))


class InceptionV3(nn.Module):
    """Images -> logits; with `train` and `auxiliary`, (logits, [the logits of the auxiliary head]).

    Raises UserError for pictures that are too small, and for a negative weight.
    """

    num_classes: int
    dropout: float = 0.5  # before the head
    auxiliary: float = 0.4  # the weight of the auxiliary head's loss, TF-Slim's; 0: none

    @nn.compact
    def __call__(
        self, x: Float[Array, "B Y X C"], train: bool = False
    ) -> Float[Array, "B N"] | tuple[Float[Array, "B N"], list[Float[Array, "B N"]]]:
        if self.auxiliary < 0:
            raise UserError(f"model.auxiliary = {self.auxiliary}: at least 0")
        second = bool(self.auxiliary) and (train or self.is_initializing())
        if min(x.shape[1:3]) < SMALLEST[second]:
            remedy = ", or model.auxiliary=0 and at least 75" if second else ""
            raise UserError(f"pictures of {list(x.shape[1:])}: sides of at least {SMALLEST[second]} are wanted{remedy}")
        layer = partial(Convolution, padding="VALID")
        x = layer(32, 3, stride=2, name="conv1")(x, train)
        x = Convolution(64, 3, name="conv3")(layer(32, 3, name="conv2")(x, train), train)
        x = layer(80, 1, name="conv4")(nn.max_pool(x, (3, 3), (2, 2)), train)
        x = layer(192, 3, name="conv5")(x, train)
        x, auxiliary = nn.max_pool(x, (3, 3), (2, 2)), []
        for name, branches in MODULES.items():
            if name == "7a" and second:
                auxiliary.append(AuxiliaryHead(self.num_classes, name="auxiliary")(x, train))
            x = Module(branches, name in REDUCING, name=f"mixed_{name}")(x, train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
        logits = nn.Dense(self.num_classes, name="head")(x)
        return (logits, auxiliary) if train and auxiliary else logits

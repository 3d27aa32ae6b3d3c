"""What the detectors share: a backbone, residual or EfficientNet-Lite0, and a feature pyramid over its last stages.

They are functions, called within a module's `__call__`: their layers are the module's own.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.vision import efficientnet
from research.models.vision.resnet import Block, Conv, Norm

NAMES = ("residual", "efficientnet_lite0")
FEATURES = "^(stage|backbone)"  # paths of the layers below pyramids and heads, for Grad-CAM


class Unit(nn.Module):
    """A 3 x 3 convolution, batch normalisation and ReLU."""

    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = Conv(self.channels, (3, 3), strides=self.stride, padding=1, name="conv")(x)
        return nn.relu(Norm(use_running_average=not train, name="norm")(x))


def stages(model: Any, x: jax.Array, train: bool) -> list[jax.Array]:
    """Pictures f[B, Y, X, C] -> the features of the last `model.levels` stages of the detector's backbone, the finest first.

    The stages are at strides 4, 8, and so on; the stem's stride is 2. Those of EfficientNet-Lite0 are below `backbone`.
    """
    if model.backbone != "residual":
        return efficientnet.Features(name="backbone")(x, train)[1:][-model.levels :]
    x = Unit(model.widths[0], 2, name="stem")(x, train)
    outputs = []
    for i, width in enumerate(model.widths[1:]):
        for j in range(model.blocks):
            x = Block(width, 2 if j == 0 else 1, False, "projection", False, name=f"stage{i}_block{j}")(x, train)
        outputs.append(x)
    return outputs[-model.levels :]


def pyramid(stages: Sequence[jax.Array], train: bool, width: int) -> list[jax.Array]:
    """Features of stages, the finest first -> as many of `width` channels, each of which has seen the coarser ones.

    Lin et al. 2017 (1612.03144): a level is added to the one below it at twice the size.
    """
    outputs, above = [], None
    for i, y in reversed(list(enumerate(stages))):
        y = nn.Dense(width, name=f"lateral{i}")(y)
        if above is not None:
            y += jnp.repeat(jnp.repeat(above, 2, 1), 2, 2)
        above = y
        outputs.append(Unit(width, name=f"neck{i}")(y, train))
    return outputs[::-1]


def count(model: Any) -> int:
    """Of the stages."""
    return len(model.widths) - 1 if model.backbone == "residual" else 4


def strides(model: Any) -> list[int]:
    """Of the last `model.levels` stages, the finest first."""
    return [2 ** (count(model) - model.levels + 2 + i) for i in range(model.levels)]

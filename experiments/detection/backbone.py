"""What the detectors share: a residual backbone, and a feature pyramid over its last stages.

They are functions, called within a module's `__call__`: their layers are the module's own.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.vision.resnet import Block, Conv, Norm


class Unit(nn.Module):
    """A 3 x 3 convolution, batch normalisation and ReLU."""

    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = Conv(self.channels, (3, 3), strides=self.stride, padding=1, name="conv")(x)
        return nn.relu(Norm(use_running_average=not train, name="norm")(x))


def stages(x: jax.Array, train: bool, widths: Sequence[int], blocks: int) -> list[jax.Array]:
    """Pictures f[B, Y, X, C] -> the features of each stage: at stride 4, 8, and so on. The stem's stride is 2."""
    x = Unit(widths[0], 2, name="stem")(x, train)
    outputs = []
    for i, width in enumerate(widths[1:]):
        for j in range(blocks):
            x = Block(width, 2 if j == 0 else 1, False, "projection", False, name=f"stage{i}_block{j}")(x, train)
        outputs.append(x)
    return outputs


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


def strides(widths: Sequence[int], levels: int) -> list[int]:
    """Of the last `levels` stages, the finest first."""
    return [2 ** (len(widths) - levels + 1 + i) for i in range(levels)]

"""EfficientNet-Lite (google's efficientnet/lite, after Tan and Le 2019, 1905.11946): inverted residuals for small devices.

MobileNetV2's blocks (Sandler et al. 2018, 1801.04381), ReLU6, no squeeze-and-excitation; stem and head keep their size. As
TensorFlow has it, SAME padding puts the odd pixel below and to the right, and the norms' epsilon is 1e-3.

    variant   parameters at 1,000 classes   size
    lite0                       4,652,008    224
    lite1                       5,416,680    240
    lite2                       6,092,072    260
    lite3                       8,197,096    280
    lite4                      13,006,568    300
"""

import math
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.nn.convolution import conv
from research.nn.stochastic_depth import DropPath, rates
from research.util.errors import UserError, nearest

SHARDING = {"fsdp": ((r"kernel$", "fsdp"),)}
MEAN, STD = 127 / 255, 128 / 255  # of the pictures that the published weights want

VARIANTS = {  # width and depth over EfficientNet-B0's
    "lite0": (1.0, 1.0),
    "lite1": (1.0, 1.1),
    "lite2": (1.1, 1.2),
    "lite3": (1.2, 1.4),
    "lite4": (1.4, 1.8),
}
# blocks, kernel, stride of the first, expansion, channels
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip

# The source draws from N(0, 2 / fan out), a depthwise convolution's fan out being that of one channel.
init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
Norm = partial(nn.BatchNorm, momentum=0.99, epsilon=1e-3)
Conv = partial(nn.Conv, use_bias=False, kernel_init=init, conv_general_dilated=conv)


class Spec(NamedTuple):
    """Of one block."""

    kernel: int
    stride: int
    expansion: int
    channels: int


class Block(nn.Module):
    """1x1 convolution to `expansion` times the channels, depthwise convolution, 1x1 convolution; a residual if shapes allow."""

    spec: Spec
    drop_path: float

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X I"], train: bool) -> Float[Array, "B _ _ O"]:
        norm, (kernel, stride, expansion, channels) = partial(Norm, use_running_average=not train), self.spec
        width, y = expansion * x.shape[-1], x
        if expansion > 1:
            y = relu6(norm(name="expand_norm")(Conv(width, (1, 1), name="expand")(y)))
        size = (kernel, kernel)
        y = Conv(width, size, stride, padding="SAME", feature_group_count=width, name="depthwise")(y)
        y = relu6(norm(name="depthwise_norm")(y))
        y = norm(name="out_norm")(Conv(channels, (1, 1), name="out")(y))
        if stride == 1 and x.shape[-1] == channels:
            y = x + DropPath(self.drop_path, train)(y)
        return shard_activations(y)


class EfficientNetLite(nn.Module):
    """Images -> logits. The published weights want pictures of 3 channels as (x - MEAN) / STD.

    Running statistics are in "batch_stats". Raises UserError for an unknown variant.
    """

    num_classes: int
    variant: str = "lite0"
    stride: int = 2  # of the stem; 1 for pictures of some 32 pixels
    dropout: float = 0.2  # before the head
    drop_path: float = 0.2  # stochastic depth: the last block's rate, from 0 at the first

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X C"], train: bool = False) -> Float[Array, "B N"]:
        x = stages(x, train, self.variant, self.stride, self.drop_path)[-1]
        x = Conv(1280, (1, 1), name="top")(x)
        x = relu6(Norm(use_running_average=not train, name="top_norm")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(self.num_classes, name="head")(x)


class Features(nn.Module):
    """Pictures f[B, Y, X, 3] in 0..1 -> what lite0's layers make of them at strides 2, 4, 8, 16 and 32, or the first of these."""

    sizes: int = 5

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X 3"], train: bool = False) -> list[Float[Array, "B _ _ _"]]:
        x = (x - jnp.array(MEAN, x.dtype)) / jnp.array(STD, x.dtype)
        return stages(x, train, "lite0", 2, 0.0, self.sizes)


def stages(
    x: Float[Array, "B Y X C"], train: bool, variant: str, stride: int, drop_path: float, sizes: int = 5
) -> list[Float[Array, "B _ _ _"]]:
    """Images -> the last features of each of the first `sizes`, the largest first: each is half of the one before.

    For use within a module's compact method: the layers are the module's own.
    """
    blocks = specs(variant)
    x = Conv(32, (3, 3), stride, padding="SAME", name="stem")(x)
    x = relu6(Norm(use_running_average=not train, name="stem_norm")(x))
    outputs = [x]
    for i, (spec, rate) in enumerate(zip(blocks, rates(drop_path, len(blocks)), strict=True)):
        if spec.stride > 1 and len(outputs) == sizes:
            break
        x = Block(spec, rate, name=f"block{i}")(x, train)
        if spec.stride > 1:
            outputs.append(x)
        outputs[-1] = x
    return outputs


def relu6(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.clip(x, 0, 6)


def specs(variant: str) -> list[Spec]:
    """The blocks of a variant."""
    if variant not in VARIANTS:
        raise UserError(f"model.variant = {variant!r}{nearest(variant, VARIANTS)}")
    width, depth = VARIANTS[variant]
    blocks = []
    for i, (repeats, kernel, stride, expansion, channels) in enumerate(STAGES):
        ends = i in (0, len(STAGES) - 1)  # their number of blocks does not grow
        for j in range(repeats if ends else math.ceil(depth * repeats)):
            blocks.append(Spec(kernel, stride if j == 0 else 1, expansion, _rounded(width * channels)))
    return blocks


def _rounded(channels: float) -> int:
    """To the nearest multiple of 8, not below nine tenths."""
    nearest8 = max(8, int(channels + 4) // 8 * 8)
    return nearest8 + 8 if nearest8 < 0.9 * channels else nearest8

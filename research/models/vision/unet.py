"""U-Net (Ronneberger et al. 2015, 1505.04597): a contracting path, an expanding one, and links at each level."""

import math

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.nn.convolution import conv
from research.util.errors import UserError, nearest

SHARDING = {"fsdp": ((r"kernel$", "fsdp"),)}
NORMS = ("batch", "group", "none")
UPS = ("convolution", "resize")
GROUPS = 8  # of a group norm's channels, or as many as divide them


class UNet(nn.Module):
    """Pictures -> logits of each pixel; the sides are multiples of `stride(model)`.

    Without norms and with one input channel the defaults are the paper's 31.0 M parameters. Convolutions are padded with zeros,
    so that the logits have the picture's size; the paper's are not, and lose 92 pixels on each side. Kernels are He's, as there.
    Running statistics of a batch norm are in "batch_stats". Raises UserError for an unknown `norm` or `up`.
    """

    num_classes: int
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)  # channels of each level, from the picture's to the coarsest
    norm: str = (
        "batch"  # after each convolution; or group, whose statistics are one picture's; or none, as in the paper
    )
    up: str = "convolution"  # to the next finer level: the paper's; resize: pixels repeated, then a convolution

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X C"], train: bool = False) -> Float[Array, "B Y X N"]:
        self._check(x.shape)
        *finer, coarsest = self.widths
        skips = []
        for i, width in enumerate(finer):
            x = Level(width, self.norm, name=f"down_{i}")(x, train)
            skips.append(x)
            x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = Level(coarsest, self.norm, name="bottom")(x, train)
        for i, width in reversed(list(enumerate(finer))):
            if self.up == "convolution":
                x = nn.ConvTranspose(width, (2, 2), (2, 2), kernel_init=nn.initializers.he_normal(), name=f"finer_{i}")(
                    x
                )
            else:
                x = _conv(width, f"finer_{i}")(x.repeat(2, 1).repeat(2, 2))
            x = Level(width, self.norm, name=f"up_{i}")(jnp.concatenate([skips[i], x], -1), train)
        return nn.Conv(self.num_classes, (1, 1), name="head")(x)

    def _check(self, shape: tuple[int, ...]) -> None:
        if self.norm not in NORMS:
            raise UserError(f"model.norm = {self.norm!r}{nearest(str(self.norm), NORMS)}")
        if self.up not in UPS:
            raise UserError(f"model.up = {self.up!r}{nearest(str(self.up), UPS)}")
        if any(side % stride(self) for side in shape[1:3]):
            raise UserError(
                f"pictures of {shape[1]} x {shape[2]}: the sides must be multiples of {stride(self)}, "
                f"as model.widths has {len(self.widths)} levels"
            )


class Level(nn.Module):
    """Two convolutions of 3 x 3, each with its norm and ReLU."""

    width: int
    norm: str

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X I"], train: bool) -> Float[Array, "B Y X {self.width}"]:
        for i in (1, 2):
            x = _conv(self.width, f"conv{i}", bias=self.norm == "none")(x)
            if self.norm == "batch":
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name=f"norm{i}")(x)
            elif self.norm == "group":
                x = nn.GroupNorm(math.gcd(GROUPS, self.width), name=f"norm{i}")(x)
            x = nn.relu(x)
        return shard_activations(x)


def stride(model: UNet) -> int:
    """Pixels of the picture along a side of a pixel of the coarsest level."""
    return 2 ** (len(model.widths) - 1)


def reach(model: UNet) -> int:
    """How far from a block that begins and ends at multiples of `stride` a pixel can be and change the block's logits.

    >>> reach(UNet(2))  # with four poolings
    94
    """
    levels = len(model.widths) - 1
    up = 2 + (model.up == "resize")  # the convolutions of a level of the expanding path
    pixels = 0
    for _ in range(levels):
        pixels = -(-(pixels + up) // 2)
    pixels += 2
    for _ in range(levels):
        pixels = 2 * pixels + 2
    return pixels


def _conv(width: int, name: str, bias: bool = True) -> nn.Conv:
    init = nn.initializers.he_normal()
    return nn.Conv(width, (3, 3), use_bias=bias, kernel_init=init, conv_general_dilated=conv, name=name)

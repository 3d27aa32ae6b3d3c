"""Residual networks of clips with 3-D convolutions, factorised (2+1)-D ones, or 2-D ones of single frames (Tran et al. 2018)."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.core.mesh import shard_activations
from research.nn.convolution3d import conv3d
from research.nn.from_config import choose

SHARDING = {"fsdp": ((r"kernel$", "fsdp"),)}
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
Conv = partial(nn.Conv, use_bias=False, kernel_init=he_normal, conv_general_dilated=conv3d)
Norm = partial(nn.BatchNorm, momentum=0.9)


class Convolution(nn.Module):
    """Clips f[B, T, Y, X, I] -> f[B, T', Y', X', O], without a bias.

    3d    one kernel of size x size x size
    2+1d  a kernel of space, a norm, a ReLU and a kernel of time (section 3.5), with `middle` channels between
    2d    a kernel of space alone
    """

    channels: int
    form: str
    size: tuple[int, int]  # of time, of space
    stride: tuple[int, int]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return choose({"3d": self._full, "2+1d": self._factorised, "2d": self._space}, self.form, "model.form")(
            x, train
        )

    def _full(self, x: jax.Array, train: bool) -> jax.Array:
        return self._conv(self.channels, (True, True), "full")(x)

    def _factorised(self, x: jax.Array, train: bool) -> jax.Array:
        x = self._conv(middle(x.shape[-1], self.channels, *self.size), (False, True), "space")(x)
        x = nn.relu(Norm(use_running_average=not train, name="norm")(x))
        return self._conv(self.channels, (True, False), "time")(x)

    def _space(self, x: jax.Array, train: bool) -> jax.Array:
        return self._conv(self.channels, (False, True), "space")(x)

    def _conv(self, channels: int, axes: tuple[bool, bool], name: str) -> nn.Conv:
        """Over time, space or both; along the other the kernel is 1 and so is the stride."""
        (t, s), (dt, ds) = (
            [n if on else 1 for n, on in zip(pair, axes, strict=True)] for pair in (self.size, self.stride)
        )
        pads = [(k // 2, k // 2) for k in (t, s, s)]
        return Conv(channels, (t, s, s), (dt, ds, ds), pads, name=name)


def middle(inputs: int, outputs: int, time: int, space: int) -> int:
    """Channels between the two factors, with which they have about as many parameters as the full kernel (section 3.5).

    >>> middle(64, 64, time=3, space=3)
    144
    """
    return time * space**2 * inputs * outputs // (space**2 * inputs + time * outputs)


class Block(nn.Module):
    """Two convolutions and a shortcut, which is a projection where the shape changes."""

    channels: int
    form: str
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = partial(Norm, use_running_average=not train)
        convolution = partial(Convolution, self.channels, self.form, (3, 3))
        y = nn.relu(norm(name="norm1")(convolution((self.stride,) * 2, name="conv1")(x, train)))
        y = norm(name="norm2")(convolution((1, 1), name="conv2")(y, train))
        if self.stride > 1 or x.shape[-1] != self.channels:
            stride = (1 if self.form == "2d" else self.stride, self.stride, self.stride)
            x = Conv(self.channels, (1, 1, 1), stride, "VALID", name="shortcut")(x)
            x = norm(name="shortcut_norm")(x)
        return shard_activations(nn.relu(x + y))


class VideoResNet(nn.Module):
    """Clips f[B, T, Y, X, C] -> logits f[B, N], by the mean over time and space.

    With `form="3d"`, `widths=(64, 128, 256, 512)`, `blocks=2`, `stem=7` and `stem_stride=2` it is R3D-18 of Tran et al. 2018
    (1711.11248); "2+1d" is R(2+1)D, whose time is halved where space is; "2d" sees each frame by itself until the mean, and
    "2d" of one frame is a network of pictures. Running statistics are in "batch_stats". Raises UserError for another form.
    """

    num_classes: int
    form: str = "2+1d"  # 3d, 2d
    widths: tuple[int, ...] = (16, 32, 64)  # channels of each stage; each but the first halves time and space
    blocks: int = 1  # in each stage
    stem: int = 3  # pixels a side of the first kernel
    stem_stride: int = 1  # of its space

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        stem = Convolution(self.widths[0], self.form, (3, self.stem), (1, self.stem_stride), name="stem")
        x = shard_activations(nn.relu(Norm(use_running_average=not train, name="stem_norm")(stem(x, train))))
        for i, width in enumerate(self.widths):
            for j in range(self.blocks):
                x = Block(width, self.form, 2 if i > 0 and j == 0 else 1, name=f"stage{i}_block{j}")(x, train)
        return nn.Dense(self.num_classes, name="head")(x.mean((1, 2, 3)).astype(jnp.float32))

"""What is expected of a window's frames: by an autoencoder that sees them all, or a U-Net that sees all but the last."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.vision.unet import UNet
from research.nn.convolution3d import conv3d
from research.util.errors import UserError

SHARDING = {"fsdp": ((r"kernel$", "fsdp"),)}


class Autoencoder(nn.Module):
    """Windows f[B, T, Y, X, C] -> their reconstruction from a code, of the same shape.

    Each width halves time and space by a 3-D convolution. The decoder convolves and repeats, and its last convolution makes the
    2 x 2 x 2 pixels of each place at once (sub-pixel convolution, 1609.05158), at an eighth of the cost. Raises UserError where
    T, Y or X is not a multiple of two to the number of widths.
    """

    widths: tuple[int, ...] = (16, 32)
    code: int = 8  # channels of the code

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        step, channels = 2 ** len(self.widths), x.shape[-1]
        if any(side % step for side in x.shape[1:4]):
            T, Y, X = x.shape[1:4]
            raise UserError(
                f"windows of {T} frames of {Y} x {X}: model.widths has {len(self.widths)} levels, so multiples of {step}"
            )
        for i, width in enumerate(self.widths):
            x = nn.relu(_conv(width, f"encoder_{i}", 2)(x))
        x = _conv(self.code, "code")(x)
        for i, width in reversed(list(enumerate(self.widths))):
            x = nn.relu(_conv(width, f"decoder_{i}")(x))
            if i:
                x = x.repeat(2, 1).repeat(2, 2).repeat(2, 3)
        return _finer(_conv(8 * channels, "pixels")(x))


class Predictor(nn.Module):
    """Windows f[B, T, Y, X, C] -> their last frame f[B, 1, Y, X, C], predicted from those before by a U-Net.

    The frames before are its channels, as in Liu et al. 2018 (1712.09867).
    """

    widths: tuple[int, ...] = (16, 32, 64)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        B, T, Y, X, C = x.shape
        seen = jnp.moveaxis(x[:, :-1], 1, 3).reshape(B, Y, X, (T - 1) * C)
        return UNet(C, self.widths, norm="none", up="resize", name="unet")(seen)[:, None]


def _finer(x: jax.Array) -> jax.Array:
    """f[B, T, Y, X, 8 C] -> f[B, 2 T, 2 Y, 2 X, C]: channels as (time, row, column, channel)."""
    B, T, Y, X, C = x.shape
    x = x.reshape(B, T, Y, X, 2, 2, 2, C // 8).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(B, 2 * T, 2 * Y, 2 * X, C // 8)


def _conv(channels: int, name: str, stride: int = 1) -> nn.Conv:
    pads = [(1, 1)] * 3
    he = nn.initializers.he_normal()
    return nn.Conv(channels, (3,) * 3, (stride,) * 3, pads, kernel_init=he, conv_general_dilated=conv3d, name=name)

"""Convolutions of clips in the form that is fastest on a CPU, for `nn.Conv(conv_general_dilated=conv3d)`."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from research.core import mesh
from research.core.arrays import Array
from research.nn.convolution import conv


def conv3d(
    clips: Float[Array, "B T Y X C"], kernel: Float[Array, "t y x I O"], strides: Any, padding: Any, **options: Any
) -> Float[Array, "B _ _ _ O"]:
    """`jax.lax.conv_general_dilated` of clips with a kernel [Kt, Ky, Kx, C, O].

    On a CPU, without dilation and groups, it is a sum of 2-D convolutions: of frames by the kernel's Kt slices, which are shifted
    in time; a kernel of one pixel is a 2-D convolution over (time, pixels). Beside XLA's own 3-D convolution of 32 clips of
    8 x 24 x 24 with 16 channels, values and gradients took 0.55 of the time for a kernel of 3 x 3 x 3, a quarter for 1 x 3 x 3
    and 0.45 for 3 x 1 x 1, on 2 cores. On other platforms it is JAX's own.
    """
    plain = jax.lax.conv_general_dilated
    dilated = {*(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ())} - {1}
    if mesh.platform() != "cpu" or dilated or options.get("feature_group_count", 1) > 1:
        return plain(clips, kernel, strides, padding, **options)
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(clips.shape[1:4], kernel.shape[:3], strides, padding)
    if kernel.shape[1:3] == (1, 1) and tuple(strides[1:]) == (1, 1) and not any(map(any, padding[1:])):
        return _over_time(clips, kernel, strides[0], padding[0])
    (B, T, Y, X, C), (Kt, Ky, Kx, _, maps) = clips.shape, kernel.shape
    slices = kernel.transpose(1, 2, 3, 0, 4).reshape(Ky, Kx, C, Kt * maps)
    frames = _conv2d(clips.reshape(B * T, Y, X, C), slices, strides[1:], padding[1:])
    parts = frames.reshape(B, T, *frames.shape[1:3], Kt, maps)
    parts = jnp.pad(parts, ((0, 0), padding[0], *((0, 0),) * 4))
    steps = parts.shape[1] - Kt + 1
    return sum(parts[:, i : i + steps : strides[0], :, :, i] for i in range(Kt))


def _over_time(clips: Array, kernel: Array, stride: int, padding: tuple[int, int]) -> Array:
    B, T, Y, X, C = clips.shape
    out = _conv2d(clips.reshape(B, T, Y * X, C), kernel[:, 0], (stride, 1), (padding, (0, 0)))
    return out.reshape(B, out.shape[1], Y, X, out.shape[-1])


def _conv2d(images: Array, kernel: Array, strides: Any, padding: Any) -> Array:
    return conv(images, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

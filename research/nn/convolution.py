"""Convolutions in the form that is fastest on a CPU: of images, for `nn.Conv(conv_general_dilated=conv)`, and of texts.

`Convolution` is what the Inception networks are made of.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from research.core import mesh
from research.core.arrays import Array

SMALL = 256  # pixels up to which a depthwise convolution is a matrix [pixels, outputs] for each channel


class Window(nn.Module):
    """A convolution over time, `size` words wide.

    Output p covers words p - size to p - 1, with zeros outside the text. Computed as one matrix product and shifted sums: the
    same values as `nn.Conv`, whose gradients are slow on XLA's CPU backend.
    """

    size: int
    maps: int
    kernel_init: Callable = nn.initializers.glorot_uniform()

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B {self.size}+T {self.maps}"]:
        B, T, D = x.shape
        kernel = self.param("kernel", self.kernel_init, (self.size, D, self.maps))
        bias = self.param("bias", nn.initializers.zeros, (self.maps,))
        flat = x.reshape(B * T, D) @ kernel.swapaxes(0, 1).reshape(D, self.size * self.maps)
        parts = flat.reshape(B, T, self.size, self.maps)
        # Output p sums word p - size + i times the kernel's row i.
        padded = [jnp.pad(parts[:, :, i], ((0, 0), (self.size - i, i), (0, 0))) for i in range(self.size)]
        return sum(padded) + bias


class Convolution(nn.Module):
    """Convolution, batch norm (epsilon 1e-3), ReLU; without the norm a bias.

    `padding` is what `nn.Conv` takes; None: half the kernel on each side.
    """

    channels: int
    kernel: int | tuple[int, int]
    batch_norm: bool = True
    stride: int = 1
    padding: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X I"], train: bool) -> Float[Array, "B _ _ O"]:
        layer = partial(nn.Conv, kernel_init=nn.initializers.he_normal(), conv_general_dilated=conv)
        size = (self.kernel, self.kernel) if isinstance(self.kernel, int) else self.kernel
        pad = self.padding or [(n // 2, n // 2) for n in size]
        x = layer(self.channels, size, self.stride, padding=pad, use_bias=not self.batch_norm, name="conv")(x)
        if self.batch_norm:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-3, name="norm")(x)
        return nn.relu(x)


def conv(
    images: Float[Array, "B *space C"], kernel: Float[Array, "*size I O"], strides: Any, padding: Any, **options: Any
) -> Float[Array, "B *moved O"]:
    """`jax.lax.conv_general_dilated` of images [B, Y, X, C] with a kernel [Ky, Kx, C, O].

    On a CPU, images of one channel with stride 1 and no dilation are convolved as a sum of Ky Kx shifted outer products, in a
    tenth of the time, as each dot product of a convolution would have one term; the gradients are JAX's own. Depthwise
    convolutions of images of at most `SMALL` pixels are one matrix product a channel, which took a third of the time and less
    at five sizes of EfficientNet's, gradients too; those of larger images are a sum of Ky Kx shifted products, which took 0.1 to
    0.25 of the time at five sizes, and 0.08 to 0.4 with gradients. Other images pass an optimization barrier: XLA would
    otherwise recompute the residual sum or norm that they come from inside each transpose of them (research/cluster/cpu.py
    keeps the barrier in the program). On other platforms it is JAX's own.
    """
    plain = jax.lax.conv_general_dilated
    if mesh.platform() != "cpu":
        return plain(images, kernel, strides, padding, **options)
    dilated = {*(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ())} - {1}
    depthwise = 1 < images.shape[-1] == kernel.shape[-1] == options.get("feature_group_count")
    if kernel.ndim == 4 and depthwise and not dilated:
        return _depthwise(images, kernel, strides, padding)
    if kernel.ndim != 4 or not kernel.shape[2] == images.shape[-1] == 1 or set(strides) != {1} or dilated:
        return plain(jax.lax.optimization_barrier(images), kernel, strides, padding, **options)
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], strides, padding)

    @jax.custom_vjp
    def shifted(images, kernel):
        return _products(images, kernel[:, :, 0], (1, 1), padding)

    def forward(images, kernel):
        return shifted(images, kernel), (images, kernel)

    def backward(operands, cotangent):
        return jax.vjp(lambda *both: plain(*both, strides, padding, **options), *operands)[1](cotangent)

    shifted.defvjp(forward, backward)
    return shifted(images, kernel)


def _depthwise(images, kernel, strides, padding):
    shape = images.shape[1:3]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(shape, kernel.shape[:2], strides, padding)
    if math.prod(shape) > SMALL:
        return _products(images, kernel[:, :, 0], strides, padding)
    B, *_, C = images.shape
    taps = kernel.reshape(-1, C)
    places = [_places(*one) for one in zip(shape, kernel.shape[:2], strides, padding, strict=True)]
    which = jnp.asarray(np.einsum("kyp,lxq->klyxpq", *places).reshape(len(taps), math.prod(shape), -1), images.dtype)
    matrices = jnp.einsum("tc,tio->cio", taps, which)
    moved = jnp.einsum("bic,cio->boc", images.reshape(B, math.prod(shape), C), matrices)
    return moved.reshape(B, *(one.shape[2] for one in places), C)


def _places(pixels: int, size: int, stride: int, pads: tuple[int, int]) -> np.ndarray:
    """Along one axis: whether tap k of output p lies on pixel y, [k, y, p]."""
    k, y, p = np.ogrid[:size, :pixels, : (pixels + sum(pads) - size) // stride + 1]
    return (y == p * stride + k - pads[0]).astype(np.float32)


def _products(images, taps, strides, padding):
    """The sum over the places of `taps` [Ky, Kx, C] of the images that are shifted there, times the tap."""
    images = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    rows, columns = (images.shape[1 + axis] - taps.shape[axis] + 1 for axis in (0, 1))
    return sum(
        images[:, y : y + rows : strides[0], x : x + columns : strides[1]] * taps[y, x]
        for y in range(taps.shape[0])
        for x in range(taps.shape[1])
    )

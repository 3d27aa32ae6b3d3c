"""GoogLeNet, Inception v1 (Szegedy et al. 2014, 1409.4842): parallel convolutions of several sizes, and auxiliary heads.

Batch normalisation after each convolution (Inception-BN, 1502.03167) takes the place of the paper's local response
normalisation, as in torchvision. `large_kernel=3` has the 6,624,904 parameters of torchvision's at 1,000 classes, and 13,004,888
with its auxiliary heads; with `last_pool=2`, too, it is torchvision's network. The paper does not state its initial values; these
are He's.
"""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float, Float32

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.nn.convolution import Convolution
from research.util.errors import UserError

SHARDING = {"fsdp": ((r"kernel$", "fsdp"),)}

# Table 1: 1x1; 3x3 reduce, 3x3; 5x5 reduce, 5x5; pool projection.
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
HEADS = {"4a": "auxiliary1", "4d": "auxiliary2"}  # the module below each auxiliary head


class Inception(nn.Module):
    """Figure 2b: four branches side by side."""

    channels: tuple[int, ...]
    large_kernel: int
    batch_norm: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X I"], train: bool) -> Float[Array, "B Y X O"]:
        def layer(i: int, kernel: int, x: Array) -> Array:
            names = ("one", "three_reduce", "three", "five_reduce", "five", "pool")
            return Convolution(self.channels[i], kernel, self.batch_norm, name=names[i])(x, train)

        pooled = nn.max_pool(x, window_shape=(3, 3), strides=(1, 1), padding=((1, 1), (1, 1)))
        branches = layer(0, 1, x), layer(2, 3, layer(1, 1, x)), layer(4, self.large_kernel, layer(3, 1, x))
        return shard_activations(jnp.concatenate([*branches, layer(5, 1, pooled)], axis=-1))


class AuxiliaryHead(nn.Module):
    """Section 5: mean-pooling to 4 x 4, 1x1 convolution, 1,024 units, dropout of 70 %."""

    num_classes: int
    batch_norm: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X I"], train: bool) -> Float[Array, "B N"]:
        x = Convolution(128, 1, self.batch_norm, name="conv")(adaptive_mean(x, 4), train)
        x = nn.relu(nn.Dense(1024, name="hidden")(x.reshape(x.shape[0], -1)))
        x = nn.Dropout(0.7, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="head")(x)


class GoogLeNet(nn.Module):
    """Images -> logits; with `train` and `auxiliary`, (logits, [the logits of the auxiliary heads]).

    Raises UserError if `strides`, `large_kernel` or `last_pool` does not fit.
    """

    num_classes: int
    strides: tuple[int, ...] = (2, 2, 2, 2, 2)  # of the first convolution and the four poolings; 1: no pooling
    large_kernel: int = 5  # the paper's; torchvision has 3
    last_pool: int = 3  # window of the fourth pooling; torchvision has 2
    batch_norm: bool = True
    dropout: float = 0.4  # before the head
    auxiliary: float = 0.3  # the weight of each auxiliary head's loss; 0: none

    @nn.compact
    def __call__(
        self, x: Float[Array, "B Y X C"], train: bool = False
    ) -> Float[Array, "B N"] | tuple[Float[Array, "B N"], list[Float[Array, "B N"]]]:
        if len(self.strides) != 5 or min(self.strides) < 1:
            raise UserError(f"model.strides = {self.strides}: five, each at least 1")
        if self.large_kernel % 2 == 0 or self.auxiliary < 0:
            raise UserError(
                f"model.large_kernel = {self.large_kernel}, model.auxiliary = {self.auxiliary}: odd, and at least 0"
            )
        if self.last_pool < min(self.strides[-1], 3):
            raise UserError(f"model.last_pool = {self.last_pool}: at least its stride, {self.strides[-1]}")
        layer = partial(Convolution, batch_norm=self.batch_norm)
        x = pool(layer(64, 7, stride=self.strides[0], name="conv1")(x, train), self.strides[1])
        x = layer(192, 3, name="conv3")(layer(64, 1, name="conv2")(x, train), train)
        stage, auxiliary = 2, []
        for name, channels in MODULES.items():
            if int(name[0]) > stage:
                window = self.last_pool if stage == 4 else 3
                x, stage = pool(x, self.strides[stage], window), int(name[0])
            x = Inception(channels, self.large_kernel, self.batch_norm, name=f"inception_{name}")(x, train)
            if name in HEADS and self.auxiliary and (train or self.is_initializing()):
                auxiliary.append(AuxiliaryHead(self.num_classes, self.batch_norm, name=HEADS[name])(x, train))
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
        logits = nn.Dense(self.num_classes, name="head")(x)
        return (logits, auxiliary) if train and auxiliary else logits


def pool(x: Float[Array, "B Y X C"], stride: int, window: int = 3) -> Float[Array, "B _ _ C"]:
    """Max-pooling whose last windows may reach over the edge (Caffe's and torch's `ceil_mode`); stride 1: none."""
    if stride == 1:
        return x
    ends = [max(-(-(n - window) // stride), 0) * stride + window - n for n in x.shape[1:3]]
    return nn.max_pool(x, window_shape=(window, window), strides=(stride, stride), padding=[(0, end) for end in ends])


def adaptive_mean(x: Float[Array, "B Y X C"], size: int) -> Float[Array, "B {size} {size} C"]:
    """Means over `size` x `size` windows, which overlap where the sides do not divide (torch's adaptive pooling)."""
    down, across = (_windows(n, size).astype(x.dtype) for n in x.shape[1:3])
    return jnp.einsum("byxc,py,qx->bpqc", x, down, across)


def _windows(n: int, size: int) -> Float32[Array, "{size} {n}"]:
    """Window i is from floor(i n / size) to ceil((i + 1) n / size)."""
    i, at = jnp.arange(size)[:, None], jnp.arange(n)
    inside = (at >= i * n // size) & (at < -(-(i + 1) * n // size))
    return inside / inside.sum(1, keepdims=True)

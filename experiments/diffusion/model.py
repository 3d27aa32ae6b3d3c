"""The U-Net of denoising diffusion (Ho et al. 2020, 2006.11239, appendix B), which may also read a class."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.core.mesh import shard_activations
from research.nn.attention import Attention
from research.nn.convolution import conv
from research.nn.positions import sinusoids
from research.util.errors import UserError

SHARDING = {"fsdp": ((r"kernel$", "fsdp"),)}

init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
Conv = partial(nn.Conv, kernel_size=(3, 3), kernel_init=init, conv_general_dilated=conv)
Dense = partial(nn.Dense, kernel_init=init)


class UNet(nn.Module):
    """Noisy pictures f[B, Y, X, C], their times f32[B] in 0..1 and classes i32[B] -> what is predicted, f[B, Y, X, C].

    The class `num_classes` stands for none. The defaults are the paper's network for CIFAR-10, 35.7 M parameters without classes.
    Convolutions that end a residual begin at zero, and so does the output. Raises UserError if a side is no multiple of two to
    the number of levels less one, or if a level of `attention` does not exist.
    """

    num_classes: int
    channels: int = 128  # of the finest level
    multipliers: tuple[int, ...] = (1, 2, 2, 2)  # of each level's channels, from the picture's size to the coarsest
    blocks: int = 2  # residual blocks of a level on the way down; one more on the way up
    attention: tuple[int, ...] = (1,)  # levels with self-attention after each block; 0 is the picture's size
    num_heads: int = 1
    dropout: float = 0.1
    conditional: bool = True  # reads the class

    @nn.compact
    def __call__(self, x: jax.Array, time: jax.Array, label: jax.Array, train: bool = False) -> jax.Array:
        self._check(x.shape)
        embedding = self._embedding(time, label).astype(x.dtype)
        shape, last = x.shape, len(self.multipliers) - 1
        residual = partial(Residual, dropout=self.dropout, train=train)

        def block(x: jax.Array, level: int, name: str) -> jax.Array:
            x = residual(self.channels * self.multipliers[level], name=name)(x, embedding)
            return SelfAttention(self.num_heads, name=f"{name}_attention")(x) if level in self.attention else x

        x = Conv(self.channels, name="stem")(x)
        skips = [x]
        for level in range(last + 1):
            for i in range(self.blocks):
                x = block(x, level, f"down_{level}_{i}")
                skips.append(x)
            if level < last:
                x = Conv(x.shape[-1], strides=2, padding=((0, 1), (0, 1)), name=f"coarser_{level}")(x)
                skips.append(x)
        x = residual(x.shape[-1], name="middle_0")(x, embedding)
        x = SelfAttention(self.num_heads, name="middle_attention")(x)
        x = residual(x.shape[-1], name="middle_1")(x, embedding)
        for level in range(last, -1, -1):
            for i in range(self.blocks + 1):
                x = block(jnp.concatenate([x, skips.pop()], -1), level, f"up_{level}_{i}")
            if level:
                x = Conv(x.shape[-1], name=f"finer_{level}")(x.repeat(2, 1).repeat(2, 2))
        x = nn.silu(norm(x, "head_norm"))
        return Conv(shape[-1], kernel_init=nn.initializers.zeros, name="head")(x)

    def _embedding(self, time: jax.Array, label: jax.Array) -> jax.Array:
        """Of times and classes, f[B, 4 * channels]."""
        width = 4 * self.channels
        x = Dense(width, name="time_in")(sinusoids(1_000 * time, self.channels))
        x = Dense(width, name="time_out")(nn.silu(x))
        if self.conditional:
            x += nn.Embed(self.num_classes + 1, width, name="class")(label)
        return x

    def _check(self, shape: tuple[int, ...]) -> None:
        levels = len(self.multipliers)
        if any(side % 2 ** (levels - 1) for side in shape[1:3]):
            raise UserError(
                f"pictures of {shape[1]} x {shape[2]}: the sides must be multiples of {2 ** (levels - 1)}, "
                f"as model.multipliers has {levels} levels"
            )
        if wrong := [level for level in self.attention if not 0 <= level < levels]:
            raise UserError(f"model.attention has level {wrong[0]}; model.multipliers has levels 0 to {levels - 1}")


class Residual(nn.Module):
    """Two convolutions of 3 x 3, each after a norm and SiLU, with the embedding added between them, and a shortcut."""

    width: int
    dropout: float
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
        y = Conv(self.width, name="conv1")(nn.silu(norm(x, "norm1")))
        y += Dense(self.width, name="embedding")(nn.silu(embedding))[:, None, None]
        y = nn.Dropout(self.dropout, deterministic=not self.train)(nn.silu(norm(y, "norm2")))
        y = Conv(self.width, kernel_init=nn.initializers.zeros, name="conv2")(y)
        if x.shape[-1] != self.width:
            x = Dense(self.width, name="shortcut")(x)
        return shard_activations(x + y)


class SelfAttention(nn.Module):
    """Every pixel attends to all, in a residual."""

    num_heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        B, Y, X, C = x.shape
        attention = Attention(
            self.num_heads, bias=True, kernel_init=init, out_init=nn.initializers.zeros, name="attention"
        )
        return x + attention(norm(x, "norm").reshape(B, Y * X, C))[0].reshape(x.shape)


def norm(x: jax.Array, name: str) -> jax.Array:
    """A group norm of 32 groups, or of fewer where a group would have less than four channels."""
    return nn.GroupNorm(math.gcd(32, max(1, x.shape[-1] // 4)), name=name)(x)

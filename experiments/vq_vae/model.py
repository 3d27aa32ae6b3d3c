"""The autoencoder with discrete codes of van den Oord et al. 2017 (1711.00937, section 4.1)."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.vq_vae import codebook
from research.nn.from_config import choose
from research.util.errors import UserError

SHARDING = {"fsdp": ((r"kernel$", "fsdp"),)}
AVERAGES, GRADIENT = "averages", "gradient"


class VQVAE(nn.Module):
    """Pictures f[B, Y, X, C] -> codes i32[B, y, x] of a grid, and pictures from codes; y = Y / 2^halvings, likewise x.

    Strided 4 x 4 convolutions, residual blocks, and the same in reverse, as the authors' code has them. The codebook is a
    parameter, or a mutable collection {"embedding": f32[K, D], "count": f32[K]} that moving averages learn.
    """

    shape: tuple[int, int, int]
    codes: int = 64  # K
    code_width: int = 16  # D
    width: int = 64  # channels of the networks
    halvings: int = 1  # strided convolutions
    blocks: int = 2  # residual, in each network
    learning: str = "averages"  # of the codebook: moving averages, or gradient, the codebook loss

    def setup(self):
        choose(dict.fromkeys((AVERAGES, GRADIENT)), self.learning, "model.learning")
        self.encoder = Encoder(self.width, self.code_width, self.halvings, self.blocks)
        self.decoder = Decoder(self.width, self.shape[-1], self.halvings, self.blocks)
        initial, size = nn.initializers.normal(1.0), (self.codes, self.code_width)
        if self.learning == GRADIENT:
            self.learnt = self.param("embedding", initial, size)
        else:
            self.averages = self.variable("codebook", "embedding", lambda: initial(self.make_rng("params"), size))
            self.count = self.variable("codebook", "count", lambda: jnp.zeros(self.codes))

    def __call__(self, image: jax.Array) -> jax.Array:
        return self.picture(self.grid(image))

    def grid(self, image: jax.Array) -> jax.Array:
        """f[B, Y, X, C] -> codes i32[B, y, x]."""
        return self.nearest(self.encode(image))

    def picture(self, codes: jax.Array) -> jax.Array:
        """i32[B, y, x] -> f32[B, Y, X, C], whose values may leave 0..1."""
        return self.decode(self.embed(codes))

    def encode(self, image: jax.Array) -> jax.Array:
        """-> a vector a cell, before it is quantised: f[B, y, x, D]."""
        return self.encoder(image)

    def nearest(self, z: jax.Array) -> jax.Array:
        """f[..., D] -> codes i32[...]."""
        return codebook.nearest(z, self._embedding())

    def embed(self, codes: jax.Array) -> jax.Array:
        """i32[...] -> their vectors f32[..., D]."""
        return self._embedding()[codes]

    def decode(self, z: jax.Array) -> jax.Array:
        """f[B, y, x, D] -> pictures f[B, Y, X, C]."""
        return self.decoder(z)

    def _embedding(self) -> jax.Array:
        return jnp.asarray(self.learnt if self.learning == GRADIENT else self.averages.value, jnp.float32)


def grid_shape(model: VQVAE) -> tuple[int, int]:
    """(y, x), the size of a picture's grid of codes. Raises UserError if the picture cannot be halved so often."""
    factor = 2**model.halvings
    y, x = (side // factor for side in model.shape[:2])
    if model.halvings < 0 or (y * factor, x * factor) != tuple(model.shape[:2]):
        raise UserError(f"model.halvings = {model.halvings}: {factor} does not divide pictures of {model.shape[:2]}")
    return y, x


def bits(model: VQVAE) -> float:
    """Of a picture's codes, without a prior: y x log2(K)."""
    return math.prod(grid_shape(model)) * math.log2(model.codes)


class Encoder(nn.Module):
    width: int
    code_width: int
    halvings: int
    blocks: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.halvings):
            x = nn.relu(nn.Conv(self.width, (4, 4), (2, 2))(x))
        x = nn.Conv(self.width, (3, 3))(x)
        for _ in range(self.blocks):
            x = Residual(self.width)(x)
        return nn.Conv(self.code_width, (1, 1), name="code")(nn.relu(x))


class Decoder(nn.Module):
    width: int
    channels: int
    halvings: int
    blocks: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        x = nn.Conv(self.width, (3, 3))(z)
        for _ in range(self.blocks):
            x = Residual(self.width)(x)
        x = nn.relu(x)
        for _ in range(self.halvings):
            x = nn.relu(nn.ConvTranspose(self.width, (4, 4), (2, 2))(x))
        return nn.Conv(self.channels, (3, 3), name="pixels")(x)


class Residual(nn.Module):
    """ReLU, 3 x 3, ReLU, 1 x 1, and what came in."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = nn.Conv(self.width, (3, 3), use_bias=False)(nn.relu(x))
        return x + nn.Conv(self.width, (1, 1), use_bias=False)(nn.relu(h))

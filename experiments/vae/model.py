"""A variational autoencoder of fully connected layers, with Gaussian codes and Bernoulli pixels."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.nn.from_config import choose

ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh}
SHARDING = {"fsdp": ((r"kernel$", "fsdp"),)}


class VAE(nn.Module):
    """Pictures -> the mean and log standard deviation of q(z | x); codes -> the logits of p(x | z).

    Pictures are flat, f[B, P], classes i32[B], codes f[B, Z] or, several a picture, f[B, K, Z]. The defaults are the network
    of Burda et al. 2016 (1509.00519) with one stochastic layer: 425,284 parameters on 28x28x1. Kernels are Glorot's, uniform.
    """

    shape: tuple[int, int, int]
    num_classes: int
    latent: int = 50  # Z
    hidden: tuple[int, ...] = (200, 200)  # widths from the picture to the code; the decoder's are their reverse
    activation: str = "tanh"  # or relu
    conditional: bool = False  # both networks also read the class

    def setup(self):
        self.encoder = Layers(self.hidden, self.activation)
        self.mean, self.log_std = dense(self.latent), dense(self.latent)
        self.decoder = Layers(self.hidden[::-1], self.activation)
        self.pixels = dense(math.prod(self.shape))

    def __call__(self, x: jax.Array, label: jax.Array) -> jax.Array:
        return self.decode(self.encode(x, label)[0], label)

    def encode(self, x: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        """-> the mean and the log of the standard deviation of the code, f[B, Z] each."""
        h = self.encoder(self._with_class(x, label))
        return self.mean(h), self.log_std(h)

    def decode(self, z: jax.Array, label: jax.Array) -> jax.Array:
        """-> logits of the pixels, f[B, P] or f[B, K, P]."""
        return self.pixels(self.decoder(self._with_class(z, label)))

    def _with_class(self, x: jax.Array, label: jax.Array) -> jax.Array:
        if not self.conditional:
            return x
        classes = nn.one_hot(label, self.num_classes, dtype=x.dtype)
        classes = classes.reshape(x.shape[0], *(1,) * (x.ndim - 2), -1)
        return jnp.concatenate([x, jnp.broadcast_to(classes, (*x.shape[:-1], self.num_classes))], -1)


class Layers(nn.Module):
    """Dense layers, each with its activation."""

    widths: tuple[int, ...]
    activation: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        activation = choose(ACTIVATIONS, self.activation, "model.activation")
        for width in self.widths:
            x = activation(dense(width)(x))
        return x


def dense(width: int) -> nn.Dense:
    return nn.Dense(width, kernel_init=nn.initializers.glorot_uniform())

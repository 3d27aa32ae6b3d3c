"""Generators and discriminators: the 2-D networks of PacGAN, DCGAN for images, packing, and classes.

Packing (Lin et al. 2018, PacGAN, 1712.04086) changes what a discriminator sees, not what it is:
`pack` joins samples into one input, from which the discriminator's first layer takes its width.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float, Int

from research.core.arrays import Array
from research.util.errors import UserError

normal = nn.initializers.normal(0.02)


def pack(x: Float[Array, "_ *shape C"], count: int) -> Float[Array, "_ *shape {count}*C"]:
    """[count * B, ..., C] -> [B, ..., count * C]: row b joins rows b, B + b, 2B + b, ...

    >>> pack(jnp.array([[1.0], [2.0], [3.0], [4.0]]), count=2).tolist()
    [[1.0, 3.0], [2.0, 4.0]]
    """
    slots = x.reshape(count, -1, *x.shape[1:])
    return jnp.concatenate(list(slots), axis=-1)


def generate(
    generator: nn.Module, variables: dict, z: Float[Array, "P B Z"], *label: Int[Array, "P B"]
) -> tuple[Float[Array, "P*B ..."], dict]:
    """Samples for training, from latent vectors z and, if it is conditional, classes, and the new `{"batch_stats": ...}`.

    Each of the P slots is normalised by its own B samples, and the running statistics move by the
    mean over slots, as in PacGAN's code; P = 1 is ordinary training. The samples are in the
    order that `pack` takes.
    """

    def one_slot(*inputs):
        return generator.apply(variables, *inputs, train=True, mutable=["batch_stats"])

    x, stats = jax.vmap(one_slot)(z, *label)
    return x.reshape(-1, *x.shape[2:]), jax.tree.map(lambda s: s.mean(0), stats)


class MLPGenerator(nn.Module):
    """Latent vectors -> samples: layers without bias, batch norm, ReLU; a linear output.

    The defaults are PacGAN's for 2-D data, after ALI (Dumoulin et al. 2017, 1606.00704); weights
    N(0, 0.02^2).
    """

    dimension: int
    width: int = 400
    num_layers: int = 4

    @nn.compact
    def __call__(self, z: Float[Array, "B Z"], train: bool = False) -> Float[Array, "B {self.dimension}"]:
        h = z
        for _ in range(self.num_layers):
            h = nn.Dense(self.width, use_bias=False, kernel_init=normal)(h)
            h = nn.relu(nn.BatchNorm(not train, momentum=0.95, epsilon=1e-4)(h))
        return nn.Dense(self.dimension, kernel_init=normal)(h)


class MaxoutDiscriminator(nn.Module):
    """Samples -> logits: maxout layers (Goodfellow et al. 2013, 1302.4389), then linear.

    The defaults are PacGAN's for 2-D data; weights N(0, 0.02^2). No layer mixes examples.
    """

    width: int = 200
    pieces: int = 5
    num_layers: int = 3

    @nn.compact
    def __call__(self, x: Float[Array, "B D"], train: bool = False) -> Float[Array, " B"]:
        h = x
        for _ in range(self.num_layers):
            h = nn.Dense(self.pieces * self.width, kernel_init=normal)(h)
            h = h.reshape(*h.shape[:-1], self.pieces, self.width).max(-2)
        return nn.Dense(1, kernel_init=normal)(h)[..., 0]


def stages(rows: int, columns: int) -> int:
    """How often DCGAN halves an image: while both sides are even and 8 or more. Raises UserError if never.

    >>> stages(28, 28), stages(32, 32)  # to 7 and 4
    (2, 3)
    """
    count, size = 0, (rows, columns)
    while all(side % 2 == 0 and side >= 8 for side in size):
        count, size = count + 1, tuple(side // 2 for side in size)
    if not count:
        raise UserError(f"DCGAN cannot halve {rows} x {columns} pictures; it needs even sides >= 8")
    return count


class ConditionalBatchNorm(nn.Module):
    """Batch norm with a scale and a bias of each class (Dumoulin et al. 2017, 1610.07629), as in Miyato & Koyama's generator."""

    num_classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X C"], label: Int[Array, " B"], train: bool) -> Float[Array, "B Y X C"]:
        embed = partial(nn.Embed, self.num_classes, x.shape[-1])
        scale = embed(embedding_init=nn.initializers.ones, name="scale")(label)
        bias = embed(embedding_init=nn.initializers.zeros, name="bias")(label)
        x = nn.BatchNorm(not train, momentum=0.9, use_scale=False, use_bias=False, name="norm")(x)
        return x * scale[:, None, None] + bias[:, None, None]


class DCGANGenerator(nn.Module):
    """Latent vectors -> images in 0..1 (Radford et al. 2016, 1511.06434, figure 1), of the classes `label` if there are any.

    A projection, then one 5 x 5 transposed convolution of stride 2 per stage, from
    `width * 2^(stages - 1)` channels to `width`, halving, and to C; batch norm and ReLU before
    each. The output is a tanh scaled to 0..1. `shape` is (Y, X, C). With `num_classes` above 0 batch norm is conditional.
    """

    shape: tuple[int, int, int]
    num_classes: int
    width: int = 64

    @nn.compact
    def __call__(
        self, z: Float[Array, "B Z"], label: Int[Array, " B"] | None = None, train: bool = False
    ) -> Float[Array, "B Y X C"]:
        rows, columns, channels = self.shape
        count = stages(rows, columns)
        wide = self.width * 2 ** (count - 1)
        h = nn.Dense(rows * columns // 4**count * wide, use_bias=False, kernel_init=normal)(z)
        h = h.reshape(-1, rows // 2**count, columns // 2**count, wide)
        for stage in reversed(range(count)):
            if self.num_classes:
                h = nn.relu(ConditionalBatchNorm(self.num_classes)(h, label, train))
            else:
                h = nn.relu(nn.BatchNorm(not train, momentum=0.9)(h))
            last = stage == 0
            features = channels if last else self.width * 2 ** (stage - 1)
            h = nn.ConvTranspose(features, (5, 5), (2, 2), use_bias=last, kernel_init=normal)(h)
        return (jnp.tanh(h) + 1) / 2


class DCGANDiscriminator(nn.Module):
    """Images in 0..1 -> logits: the generator reversed, with leaky ReLU.

    `norm` is "batch" (Radford et al. 2016; not on the first layer); for a critic under a gradient
    penalty, which is of one example at a time, "layer" or "none" (Gulrajani et al. 2017,
    1704.00028, section 4); or "spectral" (Miyato et al. 2018, 1802.05957): every weight is divided
    by its largest singular value, as one step of the power iteration a training pass finds it. Its
    vectors are kept in `batch_stats`, and only training passes move them.

    With `num_classes` above 0 it is the projection discriminator (Miyato & Koyama 2018, 1802.05637, section 3):
    the inner product of the last features with an embedding of `label` is added to the logit.
    """

    num_classes: int
    width: int = 64
    norm: str = "batch"

    @nn.compact
    def __call__(
        self, x: Float[Array, "B Y X C"], label: Int[Array, " B"] | None = None, train: bool = False
    ) -> Float[Array, " B"]:
        if self.norm not in ("batch", "layer", "none", "spectral"):
            raise UserError(f"norm is {self.norm!r}; use 'batch', 'layer', 'none' or 'spectral'")

        def apply(layer: nn.Module, inputs: Array) -> Array:
            return nn.SpectralNorm(layer)(inputs, update_stats=train) if self.norm == "spectral" else layer(inputs)

        h = 2 * x - 1
        for stage in range(stages(*x.shape[1:3])):
            bias = stage == 0 or self.norm in ("none", "spectral")
            features = self.width * 2**stage
            h = apply(nn.Conv(features, (5, 5), (2, 2), use_bias=bias, kernel_init=normal), h)
            if stage and self.norm == "batch":
                h = nn.BatchNorm(not train, momentum=0.9)(h)
            if stage and self.norm == "layer":
                h = nn.LayerNorm(reduction_axes=(1, 2, 3))(h)
            h = nn.leaky_relu(h, 0.2)
        h = h.reshape(h.shape[0], -1)
        logit = apply(nn.Dense(1, kernel_init=normal), h)[:, 0]
        if self.num_classes:
            logit += (h * apply(nn.Embed(self.num_classes, h.shape[-1], embedding_init=normal), label)).sum(-1)
        return logit

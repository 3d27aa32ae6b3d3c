"""A masked autoencoder (He et al. 2022, 2111.06377): a quarter of a picture's patches is encoded, the others are predicted."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.pretrain_images import views
from research.core.metrics import MetricSums, Terms
from research.data import draws
from research.losses.classification import weighted
from research.models.vision import picture_shape
from research.models.vision.vit import GLOROT, Layer, ViT
from research.models.vision.vit import SHARDING as SHARDING  # the encoder's serves the decoder, too
from research.nn.positions import sinusoids_2d
from research.util.errors import UserError

WHOLE_BATCH = ""
SAMPLE = "reconstructions.png"  # a row of pictures, of what is seen of them, and of what is made of that
EPS = 1e-6  # added to the variance of a patch


class MaskedAutoencoder(nn.Module):
    """Pictures f[B, Y, X, C] and an order of their patches i32[B, N] -> the pixels of those that are hidden, f[B, M, P].

    The first of the order are visible, a share of 1 - `mask`. `embed` gives the features of whole pictures, f[B, D]. The
    parameters of the encoder lie where `ViT` has them, with fixed positions, so that they start one. The defaults are the
    paper's: ViT-B with a decoder of eight layers.
    """

    image_shape: tuple[int, int, int]  # (Y, X, C)
    patch: int = 16  # this and the next four are ViT's
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    pool: str = "token"
    decoder_width: int = 512
    decoder_layers: int = 8
    decoder_heads: int = 16
    mask: float = 0.75  # share of the patches that are hidden
    normalise: bool = True  # targets: each patch less its mean, over its deviation

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    def setup(self):
        sizes = dict(patch=self.patch, width=self.width, num_layers=self.num_layers, num_heads=self.num_heads)
        self.encoder = ViT(0, self.image_shape, **sizes, pool=self.pool, positions="sincos")
        nn.share_scope(self, self.encoder)

    @nn.compact
    def __call__(self, image: jax.Array, order: jax.Array) -> jax.Array:
        width, seen = self.decoder_width, self.seen
        token = nn.initializers.normal(0.02)
        x = nn.Dense(width, kernel_init=GLOROT, name="decoder_embed")(self.encoder(image, visible=order[:, :seen]))
        first, x = jnp.split(x, [int(self.pool == "token")], axis=1)
        hidden = self.param("mask", token, (width,)).astype(x.dtype)
        x = jnp.concatenate([x, jnp.broadcast_to(hidden, (*order[:, seen:].shape, width))], axis=1)
        rows, columns = self.grid
        x = jnp.concatenate([first, x + sinusoids_2d(rows, columns, width)[order].astype(x.dtype)], axis=1)
        for i in range(self.decoder_layers):
            layer = Layer(
                self.decoder_heads, "gelu_exact", 4 * width, self.encoder.norm_eps, 0.0, 0.0, name=f"decoder_{i}"
            )
            x = layer(x, False)
        x = nn.LayerNorm(epsilon=self.encoder.norm_eps, name="decoder_norm")(x[:, seen - self.num_patches :])
        return nn.Dense(self.patch**2 * self.image_shape[2], kernel_init=GLOROT, name="pixels")(x)

    def embed(self, image: jax.Array) -> jax.Array:
        x = self.encoder(image)
        return x[:, 0] if self.pool == "token" else x.mean(1)

    @property
    def grid(self) -> tuple[int, int]:
        return self.image_shape[0] // self.patch, self.image_shape[1] // self.patch

    @property
    def num_patches(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def seen(self) -> int:
        """Patches that are visible."""
        return round(self.num_patches * (1 - self.mask))


def patches(image: jax.Array, size: int) -> jax.Array:
    """f[B, Y, X, C] -> f[B, N, P], row by row; P = size * size * C."""
    B, Y, X, C = image.shape
    grid = image.reshape(B, Y // size, size, X // size, size, C)
    return grid.swapaxes(2, 3).reshape(B, Y * X // size**2, size**2 * C)


def picture(patches: jax.Array, shape: tuple[int, int, int], size: int) -> jax.Array:
    """The inverse of `patches`."""
    Y, X, C = shape
    grid = patches.reshape(-1, Y // size, X // size, size, size, C)
    return grid.swapaxes(2, 3).reshape(-1, Y, X, C)


def moments(patches: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of each patch the mean and the deviation of its pixels, f32[B, N, 1]; the variance is unbiased, as in the authors' code."""
    return patches.mean(-1, keepdims=True), jnp.sqrt(patches.var(-1, keepdims=True, ddof=1) + EPS)


def example(model: MaskedAutoencoder, shape: tuple[int, int, int]) -> tuple:
    return jnp.zeros((1, *shape)), jnp.arange(model.num_patches)[None]


def outputs(
    model: MaskedAutoencoder, variables: Any, batch: Any, seed: int, augment: views.Augment, train: bool
) -> tuple:
    """-> {"error": f32[B]}, the mean squared error over the hidden patches' pixels; no state."""
    image, order, predicted = _predicted(model, variables, batch, seed, augment)
    target = patches(image.astype(jnp.float32), model.patch)
    if model.normalise:
        mean, deviation = moments(target)
        target = (target - mean) / deviation
    return {"error": jnp.square(predicted - _take(target, order[:, model.seen :])).mean((1, 2))}, {}


def terms(model: MaskedAutoencoder, outputs: Any, mask: jax.Array | None = None) -> tuple[Terms, MetricSums]:
    return weighted({"loss": outputs["error"]}, mask)


def rows(model: MaskedAutoencoder, variables: Any, batch: Any, seed: int, augment: views.Augment) -> list[jax.Array]:
    """Rows of a picture for people: what is visible, and that with what is predicted of the rest.

    A normalised prediction is shown with the mean and the deviation of the true patch.
    """
    image, order, predicted = _predicted(model, variables, batch, seed, augment)
    true, hidden = patches(image.astype(jnp.float32), model.patch), order[:, model.seen :]
    if model.normalise:
        mean, deviation = (_take(x, hidden) for x in moments(true))
        predicted = predicted * deviation + mean
    at = jnp.arange(len(true))[:, None], hidden
    both = true.at[at].set(0.5), true.at[at].set(predicted)
    return [picture(x, model.image_shape, model.patch) for x in both]


def _predicted(model: MaskedAutoencoder, variables: Any, batch: Any, seed: int, augment: views.Augment) -> tuple:
    """-> pictures f[B, Y, X, C], orders i32[B, N] of their patches, and predictions of the hidden ones f32[B, M, P]."""
    image = views.augmented(batch, seed, augment)[:, 0]
    keys = draws.keys(batch["draw"], seed, "mask")
    order = jax.vmap(lambda key: jax.random.permutation(key, model.num_patches))(keys)
    return image, order, model.apply(variables, image, order).astype(jnp.float32)


def _take(x: jax.Array, places: jax.Array) -> jax.Array:
    """x f[B, N, D] at places i32[B, M] -> f[B, M, D]."""
    return jnp.take_along_axis(x, places[..., None], 1)


def _check(model: MaskedAutoencoder) -> None:
    picture_shape.patches(model.image_shape, model.patch)
    if not 0 < model.mask < 1 or not 0 < model.seen < model.num_patches:
        raise UserError(
            f"model.mask = {model.mask}: a share of {model.num_patches} patches that hides some and leaves some"
        )
    if model.normalise and model.patch**2 * model.image_shape[2] < 2:
        raise UserError("model.normalise = True: patches of one number have no deviation; set it to False")
    width, heads = model.decoder_width, model.decoder_heads
    if width % heads or width % 4 or width < 8:
        raise UserError(
            f"model.decoder_width = {width}: a multiple of 4 and of model.decoder_heads = {heads}, at least 8"
        )

"""The Vision Transformer (Dosovitskiy et al. 2021, 2010.11929): an image as a sequence of patches.

    size        width  num_layers  num_heads  parameters at patch 16, 224 x 224, 1,000 classes
    ViT-Ti        192          12          3   5,717,416
    ViT-S         384          12          6  22,050,664
    ViT-B         768          12         12  86,567,656
    ViT-L       1,024          24         16 304,326,632

Initial values are those of the authors' code: Glorot's for the layers, zeros for the head and the class token.
"""

from functools import partial
from math import sqrt

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float, Int

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.models.vision import picture_shape
from research.nn.attention import Attention
from research.nn.convolution import conv
from research.nn.feed_forward import ACTIVATIONS, FeedForward
from research.nn.initializers import uniform
from research.nn.positions import sinusoids_2d
from research.nn.stochastic_depth import DropPath, rates
from research.util.errors import UserError, nearest

SHARDING = {
    "fsdp": ((r"kernel$", "fsdp"),),
    "tensor": (
        (r"(qkv|up)/kernel$", (None, "model")),
        (r"(qkv|up)/bias$", ("model",)),
        (r"(out|down)/kernel$", ("model", None)),
    ),
}

GLOROT = nn.initializers.xavier_uniform()


class Layer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    num_heads: int
    mlp: str
    mlp_width: int
    norm_eps: float
    dropout: float
    drop_path: float

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], train: bool) -> Float[Array, "B T D"]:
        norm = partial(nn.LayerNorm, epsilon=self.norm_eps)
        drop, path = nn.Dropout(self.dropout, deterministic=not train), DropPath(self.drop_path, train)
        each = uniform(sqrt(3 / x.shape[-1]))  # Glorot's of queries, keys and values, a [D, D] each
        attention = Attention(self.num_heads, bias=True, kernel_init=each, out_init=GLOROT, name="attention")
        y, _ = attention(norm(name="attention_norm")(x), train=train)
        x = shard_activations(x + path(drop(y)))
        feed_forward = partial(FeedForward, bias=True, dropout=self.dropout, kernel_init=GLOROT, out_init=GLOROT)
        y = feed_forward(self.mlp_width, self.mlp, name="feed_forward")(norm(name="feed_forward_norm")(x), train=train)
        return shard_activations(x + path(drop(y)))


class ViT(nn.Module):
    """Images -> logits; with `num_classes=0` a backbone: the tokens after the last norm, f[B, T, D], the class token's first.

    Of the patches only those of the numbers `visible` are read, if they are given, in that order (a masked autoencoder's
    encoder); the class token always is.

    Parameters:

        patch/{kernel [P, P, C, D], bias [D]}     class_token [1, D]          position [T, D]
        h_0/{attention, attention_norm, feed_forward, feed_forward_norm}/...  final_norm/{scale, bias} [D]
        representation/{kernel [D, R], bias [R]}                              head/{kernel [D, N], bias [N]}

    Raises UserError for a picture that is no whole number of patches, and for values that do not fit.
    """

    num_classes: int
    image_shape: tuple[int, int, int]  # (Y, X, C)
    patch: int = 16  # pixels of a side
    width: int = 192  # D
    num_layers: int = 12
    num_heads: int = 3
    mlp: str = "gelu_exact"  # or "gelu" (the tanh form), "relu", "silu", "swiglu"
    mlp_width: int | None = None  # None: 4 width
    pool: str = "token"  # or "mean", of the patches
    positions: str = "learned"  # or "sincos", fixed and of two dimensions
    representation: int = 0  # units of a tanh layer before the head; 0: none
    norm_eps: float = 1e-6
    dropout: float = 0.0  # of embeddings, hidden units and residual branches
    drop_path: float = 0.0  # stochastic depth: the last layer's rate, from 0 at the first

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Float[Array, "B Y X C"], train: bool = False, visible: Int[Array, "B M"] | None = None
    ) -> Float[Array, "B N"] | Float[Array, "B T D"]:
        picture_shape.check(x, self.image_shape)
        B, size = x.shape[0], (self.patch, self.patch)
        x = nn.Conv(self.width, size, size, padding="VALID", conv_general_dilated=conv, name="patch")(x)
        rows, columns = x.shape[1:3]
        x = x.reshape(B, rows * columns, self.width)
        if self.pool == "token":
            token = self.param("class_token", nn.initializers.zeros, (1, self.width)).astype(x.dtype)
            x = jnp.concatenate([jnp.broadcast_to(token, (B, 1, self.width)), x], axis=1)
        x = nn.Dropout(self.dropout, deterministic=not train)(x + self._positions(rows, columns).astype(x.dtype))
        if visible is not None:
            token, patches = jnp.split(x, [int(self.pool == "token")], axis=1)
            x = jnp.concatenate([token, jnp.take_along_axis(patches, visible[..., None], 1)], axis=1)
        for i, rate in enumerate(rates(self.drop_path, self.num_layers)):
            layer = partial(Layer, self.num_heads, self.mlp, self.mlp_width or 4 * self.width, self.norm_eps)
            x = layer(self.dropout, rate, name=f"h_{i}")(x, train)
        x = nn.LayerNorm(epsilon=self.norm_eps, name="final_norm")(x)
        if self.num_classes == 0:
            return x
        x = x[:, 0] if self.pool == "token" else x.mean(1)
        if self.representation:
            x = nn.tanh(nn.Dense(self.representation, name="representation")(x))
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="head")(x)

    def _positions(self, rows: int, columns: int) -> Float[Array, "T D"]:
        """The class token's position is the first; a fixed one is zero."""
        token = self.pool == "token"
        if self.positions == "learned":
            return self.param("position", nn.initializers.normal(0.02), (rows * columns + token, self.width))
        return jnp.pad(sinusoids_2d(rows, columns, self.width), ((int(token), 0), (0, 0)))


def _check(model: ViT) -> None:
    picture_shape.patches(model.image_shape, model.patch)
    rates(model.drop_path, model.num_layers)
    for key, known in {
        "pool": ("token", "mean"),
        "positions": ("learned", "sincos"),
        "mlp": tuple(ACTIVATIONS),
    }.items():
        if (value := getattr(model, key)) not in known:
            raise UserError(f"model.{key} = {value!r}{nearest(value, known)}")
    if model.width % model.num_heads:
        raise UserError(f"model.width = {model.width} is no multiple of model.num_heads = {model.num_heads}")
    if model.positions == "sincos" and (model.width % 4 or model.width < 8):
        raise UserError(f"model.width = {model.width}: sincos positions need a multiple of 4, at least 8")

"""Transformers for small pictures (Hassani et al. 2021, 2104.05704): CCT, CVT and ViT-Lite.

    name        patch  pool        num_layers  num_heads  width  mlp_width  parameters at 32 x 32 x 3, 10 classes
    CCT-2/3x2       0  "sequence"           2          2    128        128    283,723
    CCT-7/3x1       0  "sequence"           7          4    256        512  3,760,139 (convolutions=1)
    CVT-7/4         4  "sequence"           7          4    256        512  3,716,619
    ViT-Lite-7/4    4  "token"              7          4    256        512  3,716,874

Layers are those of the authors' code, in which the second residual sum starts from the normalised stream, and
queries, keys and values have no biases.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.models.vision import picture_shape
from research.nn.attention import Attention
from research.nn.convolution import conv
from research.nn.feed_forward import FeedForward
from research.nn.positions import sinusoids
from research.nn.stochastic_depth import DropPath, rates
from research.util.errors import UserError, nearest

SHARDING = {
    "fsdp": ((r"kernel$", "fsdp"),),
    "tensor": (
        (r"(qkv|up)/kernel$", (None, "model")),
        (r"up/bias$", ("model",)),
        (r"(out|down)/kernel$", ("model", None)),
    ),
}

INIT = nn.initializers.truncated_normal(0.02)
KAIMING = nn.initializers.he_normal()


class Layer(nn.Module):
    """x = norm(x + attention(pre_norm(x))), then x + feed_forward(x)."""

    num_heads: int
    mlp_width: int
    dropout: float
    attention_dropout: float
    drop_path: float

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], train: bool) -> Float[Array, "B T D"]:
        norm = partial(nn.LayerNorm, epsilon=1e-5)
        drop, path = nn.Dropout(self.dropout, deterministic=not train), DropPath(self.drop_path, train)
        attention = Attention(
            self.num_heads,
            dropout=self.attention_dropout,
            kernel_init=INIT,
            out_init=INIT,
            out_bias=True,
            name="attention",
        )
        y, _ = attention(norm(name="attention_norm")(x), train=train)
        x = shard_activations(norm(name="feed_forward_norm")(x + path(drop(y))))
        feed_forward = FeedForward(
            self.mlp_width,
            "gelu_exact",
            bias=True,
            dropout=self.dropout,
            kernel_init=INIT,
            out_init=INIT,
            name="feed_forward",
        )
        return shard_activations(x + path(drop(feed_forward(x, train=train))))


class CompactTransformer(nn.Module):
    """Images -> logits. The default is CCT-2/3x2.

    Raises UserError for a picture that is no whole number of patches, and for values that do not fit.
    """

    num_classes: int
    image_shape: tuple[int, int, int]  # (Y, X, C)
    patch: int = 0  # pixels of a patch's side (ViT-Lite, CVT); 0: convolutions make the tokens (CCT)
    convolutions: int = 2  # each with ReLU and 3 x 3 max-pooling of stride 2
    kernel: int = 3  # of the convolutions
    filters: int = 64  # channels of all convolutions but the last
    width: int = 128  # D
    num_layers: int = 2
    num_heads: int = 2
    mlp_width: int = 128
    pool: str = "sequence"  # a learned weighted mean of the tokens; or "token", a class token
    positions: str = "learned"  # or "sinusoidal", fixed, or "none"
    dropout: float = 0.0  # of embeddings, hidden units and residual branches
    attention_dropout: float = 0.1
    drop_path: float = 0.1  # stochastic depth: the last layer's rate, from 0 at the first

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X C"], train: bool = False) -> Float[Array, "B N"]:
        picture_shape.check(x, self.image_shape)
        x = self._tokens(x)
        B = x.shape[0]
        if self.pool == "token":
            token = self.param("class_token", nn.initializers.zeros, (1, self.width)).astype(x.dtype)
            x = jnp.concatenate([jnp.broadcast_to(token, (B, 1, self.width)), x], axis=1)
        if self.positions == "learned":
            init = nn.initializers.truncated_normal(0.2)
            x += self.param("position", init, x.shape[1:]).astype(x.dtype)
        elif self.positions == "sinusoidal":
            x += sinusoids(jnp.arange(x.shape[1]), self.width).astype(x.dtype)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        for i, rate in enumerate(rates(self.drop_path, self.num_layers)):
            layer = Layer(self.num_heads, self.mlp_width, self.dropout, self.attention_dropout, rate, name=f"h_{i}")
            x = layer(x, train)
        x = nn.LayerNorm(epsilon=1e-5, name="final_norm")(x)
        if self.pool == "token":
            x = x[:, 0]
        else:  # equations 4 and 5
            weights = jax.nn.softmax(nn.Dense(1, kernel_init=INIT, name="pool")(x).astype(jnp.float32), axis=1)
            x = jnp.sum(weights.astype(x.dtype) * x, axis=1)
        return nn.Dense(self.num_classes, kernel_init=INIT, name="head")(x)

    def _tokens(self, x: Float[Array, "B Y X C"]) -> Float[Array, "B T D"]:
        layer = partial(nn.Conv, kernel_init=KAIMING, conv_general_dilated=conv)
        if self.patch:
            size = (self.patch, self.patch)
            x = layer(self.width, size, size, padding="VALID", name="patch")(x)
        else:
            for i in range(self.convolutions):
                channels = self.width if i == self.convolutions - 1 else self.filters
                size, pad = (self.kernel, self.kernel), max(1, self.kernel // 2)
                x = nn.relu(layer(channels, size, padding=pad, use_bias=False, name=f"conv{i + 1}")(x))
                x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        return x.reshape(x.shape[0], -1, self.width)


def _check(model: CompactTransformer) -> None:
    if model.patch:
        picture_shape.patches(model.image_shape, model.patch)
    elif model.convolutions < 1 or model.kernel < 1 or model.kernel % 2 == 0:
        raise UserError(
            f"model.convolutions = {model.convolutions}, model.kernel = {model.kernel}: at least one, and an odd number"
        )
    rates(model.drop_path, model.num_layers)
    for key, known in {"pool": ("sequence", "token"), "positions": ("learned", "none", "sinusoidal")}.items():
        if (value := getattr(model, key)) not in known:
            raise UserError(f"model.{key} = {value!r}{nearest(value, known)}")
    if model.width % model.num_heads:
        raise UserError(f"model.width = {model.width} is no multiple of model.num_heads = {model.num_heads}")

"""A transformer that reads a picture and a prompt, and writes a text.

The tokens of the picture and of the prompt, which tells the task, are one source of the encoder, as in VL-T5 (Cho et al. 2021,
2102.02779). Theirs of a picture are features of a detector; here convolutions make them, and are learnt with the rest.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.models.text import transformer
from research.models.text.transformer import Transformer
from research.nn.convolution import conv
from research.nn.logits import DeferredLogits
from research.nn.positions import sinusoids_2d
from research.util.errors import UserError

# The kernels of the convolutions are small: they are on every device.
SHARDING = {name: ((r"picture/conv", ()), *rules) for name, rules in transformer.SHARDING.items()}
PAD = 0  # the token that fills up a prompt


class PictureTokens(nn.Module):
    """Pictures f[B, Y, X, C] -> tokens f[B, S, D] with positions: a convolution for each of `channels` halves the picture.

    Without `vision` the tokens are a learned constant.
    """

    channels: tuple[int, ...]  # the last is D
    vision: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        B, dtype, width = x.shape[0], x.dtype, self.channels[-1]
        rows, columns = (-(-side // 2 ** len(self.channels)) for side in x.shape[1:3])
        if self.vision:
            for i, channels in enumerate(self.channels):
                x = nn.Conv(channels, (3, 3), (2, 2), conv_general_dilated=conv, name=f"conv{i}")(x)
                x = nn.relu(nn.LayerNorm(name=f"norm{i}")(x))
            x = x.reshape(B, rows * columns, width)
        else:
            constant = self.param("constant", nn.initializers.normal(1.0), (rows * columns, width)).astype(dtype)
            x = jnp.broadcast_to(constant, (B, *constant.shape))
        return x + sinusoids_2d(rows, columns, width).astype(dtype)


class Describer(Transformer):
    """Picture f[B, Y, X, C], prompt i32[B, P] padded with PAD, target tokens i32[B, T] -> logits f32[B, T, V] of the next."""

    vision: bool = True  # False: the text-only baseline, which sees a learned constant
    channels: tuple[int, ...] = (32, 64)  # of convolutions that halve the picture; one more has the transformer's width

    def __post_init__(self):
        if self.width % 4 or self.width < 8:
            raise UserError(f"model.width = {self.width}: positions of a picture want a multiple of 4, at least 8")
        super().__post_init__()

    def setup(self):
        super().setup()
        self.picture = PictureTokens((*self.channels, self.width), self.vision)

    def __call__(
        self, image: jax.Array, prompt: jax.Array, tokens: jax.Array, *, train: bool = False, defer_logits: bool = False
    ) -> jax.Array | DeferredLogits:
        memory = self.encode(image, prompt, train=train)
        return self.decode(tokens, memory, train=train, defer_logits=defer_logits)[0]

    def encode(self, image: jax.Array, prompt: jax.Array, *, train: bool = False) -> dict[str, Any]:
        """-> the memory of `Transformer.encode`, of the picture's tokens and then the prompt's."""
        seen = self.picture(image)
        x = jnp.concatenate([seen, self._embed(prompt, self.tokens, "source_position", 0, train)], 1)
        mask = jnp.concatenate([jnp.ones(seen.shape[:2], bool), prompt != PAD], 1)
        return self.encode_embedded(x, mask, train=train)

"""Transformers that classify a text: BERT by its first token (Devlin et al. 2019), GPT by its last (Radford et al. 2018).

Pre-trained parameters keep their paths, below `encoder/` and `pooler/` or below `gpt/`; new is
head/{kernel [D, N], bias [N]}. So a BERT is loaded by `--init-from RUN --config.pretrained.fresh=^head/`, and a GPT with
`--config.pretrained.into=gpt` in addition.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float32, Int

from research.core.arrays import Array
from research.models.text import bert, gpt
from research.nn.from_config import from_config


class TextBert(nn.Module):
    """Texts, whose first token is the class token, and their lengths -> logits."""

    encoder: bert.Encoder
    num_classes: int

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B T"], length: Int[Array, " B"], *, train: bool = False
    ) -> Float32[Array, "B N"]:
        """Tokens beyond a row's length are ignored. Dropout needs `train=True` and `rngs={"dropout": key}`."""
        inside = jnp.arange(tokens.shape[1]) < length[:, None]
        x = bert.Pooler(name="pooler")(self.encoder(tokens, inside, train=train))
        x = nn.Dropout(self.encoder.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=bert.INIT, name="head")(x).astype(jnp.float32)


class TextGPT(nn.Module):
    """Texts and their lengths -> logits, from the last token's vector."""

    gpt: gpt.GPT  # without its head
    num_classes: int

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B T"], length: Int[Array, " B"], *, train: bool = False
    ) -> Float32[Array, "B N"]:
        """Tokens beyond a row's length are ignored. Dropout needs `train=True` and `rngs={"dropout": key}`."""
        x = self.gpt(tokens, train=train)
        x = jnp.take_along_axis(x, (length - 1)[:, None, None], axis=1)[:, 0]
        x = nn.Dropout(self.gpt.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(0.02), name="head")(x).astype(jnp.float32)


def make_bert(group: Mapping[str, Any], vocab_size: int, num_classes: int, max_length: int) -> TextBert:
    """A group of the config, whose keys are `bert.Encoder`'s -> the classifier; None is the attribute's default."""
    return TextBert(from_config(bert.Encoder, group, vocab_size=vocab_size, max_length=max_length), num_classes)


def make_gpt(group: Mapping[str, Any], vocab_size: int, num_classes: int, max_length: int) -> TextGPT:
    """A group of the config, whose keys are `gpt.GPT`'s -> the classifier; None is the attribute's default."""
    trunk = from_config(gpt.GPT, group, vocab_size=vocab_size, max_length=max_length, head=False)
    return TextGPT(trunk, num_classes)

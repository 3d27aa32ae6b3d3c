"""Two encoders whose inner product scores a passage for a question: DPR (Karpukhin et al. 2020, 2004.04906).

question/...  passage/...    an encoder each, or both in shared/...
bag: tokens/embedding [V, D]    weight/embedding [V, 1]    norm/scale [D]
bert: encoder/... of research/models/text/bert.py; the vector is that of [CLS]
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float, Float32, Int

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.models.text.bert import Encoder

SHARDING = {"fsdp": ((r"(kernel|embedding)$", "fsdp"),)}


class BagEncoder(nn.Module):
    """The layer-normalised mean of token vectors, weighted by a learned weight per token.

    The weights correspond to inverse document frequencies. Initial vectors have a norm of D^(1/4), so that inner products
    have a variance of about 1.
    """

    vocab_size: int
    width: int = 128  # D
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B T"], mask: Float[Array, "B T"], *, train: bool = False
    ) -> Float[Array, "B D"]:
        x = nn.Embed(self.vocab_size, self.width, embedding_init=nn.initializers.normal(1.0), name="tokens")(tokens)
        x = shard_activations(nn.Dropout(self.dropout, deterministic=not train)(x))
        weight = nn.Embed(self.vocab_size, 1, embedding_init=nn.initializers.zeros, name="weight")(tokens)
        weight = jnp.exp(weight) * mask[..., None]
        x = (x * weight).sum(1) / jnp.maximum(weight.sum(1), 1e-9)
        scale = nn.initializers.constant(self.width**-0.25)
        return nn.LayerNorm(use_bias=False, scale_init=scale, name="norm")(x)


class BertEncoder(nn.Module):
    """BERT's vector of [CLS], without the pooler."""

    encoder: Encoder

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B T"], mask: Float[Array, "B T"], *, train: bool = False
    ) -> Float[Array, "B D"]:
        return self.encoder(tokens, mask, train=train)[:, 0]


class DualEncoder(nn.Module):
    """Questions, passages and their masks, 0 for padding -> their vectors."""

    make: Callable[..., nn.Module]  # an encoder, called with a name
    shared: bool = True

    def setup(self):
        if self.shared:
            self.of_question = self.of_passage = self.make(name="shared")
        else:
            self.of_question, self.of_passage = self.make(name="question"), self.make(name="passage")

    def __call__(
        self,
        question: Int[Array, "B Q"],
        question_mask: Float[Array, "B Q"],
        passage: Int[Array, "B T"],
        passage_mask: Float[Array, "B T"],
        *,
        train: bool = False,
    ) -> tuple[Float32[Array, "B D"], Float32[Array, "B D"]]:
        return self.questions(question, question_mask, train=train), self.passages(passage, passage_mask, train=train)

    def questions(
        self, tokens: Int[Array, "B Q"], mask: Float[Array, "B Q"], *, train: bool = False
    ) -> Float32[Array, "B D"]:
        return self.of_question(tokens, mask, train=train).astype(jnp.float32)

    def passages(
        self, tokens: Int[Array, "B T"], mask: Float[Array, "B T"], *, train: bool = False
    ) -> Float32[Array, "B D"]:
        return self.of_passage(tokens, mask, train=train).astype(jnp.float32)

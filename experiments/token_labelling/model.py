"""The networks that give each token of a row scores of N labels, and the chain of labels that may stand on top.

Parameters of the BiLSTM, H units per direction; with `crf` the chain's stand beside those of either network:

    tokens/embedding [V, D]     layer_0/{forward,backward}/...    a layer's: see research/nn/recurrent.py
    head/{kernel [2 H, N], bias [N]}
    crf/{start [N], transitions [N, N], end [N]}
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.core.mesh import shard_activations
from research.models.text import bert
from research.nn.crf import CRF, Chain
from research.nn.from_config import choose, from_config
from research.nn.initializers import uniform
from research.nn.linear import flat_dot
from research.nn.recurrent import LSTM, Bidirectional
from research.util.errors import UserError


class BiLSTM(nn.Module):
    """Embeddings, LSTM layers in both directions, a linear layer (Huang et al. 2015, 1508.01991)."""

    vocab_size: int
    num_classes: int
    width: int = 128  # D, of embeddings
    hidden: int = 128  # H, units per direction
    num_layers: int = 1
    dropout: float = 0.3  # of every layer's input and of the last one's output, one mask per row
    embedding_scale: float = 0.05  # initial embeddings are uniform in -scale..scale

    def __post_init__(self):
        for name in ("width", "hidden", "num_layers"):
            if (value := getattr(self, name)) < 1:
                raise UserError(f"model.{name} = {value}: at least 1")
        super().__post_init__()

    @nn.compact
    def __call__(self, tokens: jax.Array, mask: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        """Tokens i32[B, T] -> logits f32[B, T, N]. `mask` is false for the padding behind the tokens (None: there is none)."""
        lengths = None if mask is None else mask.sum(1)
        embed = nn.Embed(self.vocab_size, self.width, embedding_init=uniform(self.embedding_scale), name="tokens")
        x = shard_activations(embed(tokens))
        layer = partial(LSTM, self.hidden, dropout=self.dropout)
        for i in range(self.num_layers):
            x, _ = Bidirectional(layer, name=f"layer_{i}")(x, None, lengths, train=train)
        x = nn.Dropout(self.dropout, broadcast_dims=(1,), deterministic=not train)(x)
        dot = partial(flat_dot, preferred_element_type=jnp.float32)
        return nn.Dense(self.num_classes, dot_general=dot, name="head")(x)


class WithChain(nn.Module):
    """A network's logits, and the scores of a chain of labels. The network's parameters have the paths that they have alone."""

    network: nn.Module
    num_classes: int

    def setup(self):
        nn.share_scope(self, self.network)
        self.crf = CRF(self.num_classes)

    def __call__(
        self, tokens: jax.Array, mask: jax.Array | None = None, *, train: bool = False
    ) -> tuple[jax.Array, Chain]:
        return self.network(tokens, mask, train=train), self.crf()


def _bert(group: Mapping[str, Any], vocab_size: int, num_classes: int, max_length: int) -> nn.Module:
    encoder = from_config(bert.Encoder, group, vocab_size=vocab_size, max_length=max_length)
    return bert.BertForTokenLabels(encoder, num_classes)


def _bilstm(group: Mapping[str, Any], vocab_size: int, num_classes: int, max_length: int) -> nn.Module:
    return from_config(BiLSTM, group, vocab_size=vocab_size, num_classes=num_classes)


# name -> (config group and sizes -> module; sharding rules)
MODELS: dict[str, tuple[Callable, Any]] = {
    "bert": (_bert, bert.SHARDING),
    "bilstm": (_bilstm, {"fsdp": ((r"(kernel|embedding)$", "fsdp"),)}),
}


def make(group: Mapping[str, Any], **sizes: int) -> tuple[nn.Module, Any]:
    """The `model` group and the sizes that the data decides -> (the module, its sets of sharding rules)."""
    make_network, rule_sets = choose(MODELS, group["name"])
    network = make_network({key: value for key, value in group.items() if key != "crf"}, **sizes)
    return (WithChain(network, sizes["num_classes"]) if group["crf"] else network), rule_sets

"""BERT: a bidirectional transformer encoder and its two pre-training heads (Devlin et al. 2019, 1810.04805).

Layers are the paper's: embeddings of token, position and segment added and normalised, then blocks that
normalise after each residual sum, exact GELU, biases, weights from N(0, 0.02) truncated at two deviations.

Parameters, L layers (with `scan` the paths read `encoder/h/...` and the shapes gain a leading L). A model with
this encoder keeps it under `encoder/`, and BERT's pooler under `pooler/`, so that pre-trained parameters match by path:

    encoder/tokens/embedding [V, D]            encoder/position/embedding [max_length, D]
    encoder/segment/embedding [S, D]           encoder/embedding_norm/{scale,bias} [D]
    encoder/h_0/attention/qkv/{kernel [D, 3D], bias [3D]}
    encoder/h_0/attention/out/{kernel [D, D], bias [D]}
    encoder/h_0/attention_norm/{scale,bias} [D]
    encoder/h_0/feed_forward/up/{kernel [D, F], bias [F]}
    encoder/h_0/feed_forward/down/{kernel [F, D], bias [D]}
    encoder/h_0/feed_forward_norm/{scale,bias} [D]
    pooler/dense/{kernel [D, D], bias [D]}

    mlm/dense/{kernel [D, D], bias [D]}        mlm/norm/{scale,bias} [D]           mlm/bias [V]
    nsp/{kernel [D, 2], bias [2]}              of BertForPretraining
    head/{kernel [D, N], bias [N]}             of BertForTokenLabels
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32, Int

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.nn.attention import Attention
from research.nn.feed_forward import ACTIVATIONS, FeedForward
from research.nn.flash import Mask
from research.nn.linear import flat_dot
from research.nn.logits import DeferredLogits
from research.util.errors import UserError, nearest

INIT = nn.initializers.truncated_normal(0.02)

# As GPT's (research/models/text/gpt.py). The segment table, of two rows, and the vectors are replicated.
SHARDING = {
    "fsdp": (
        (r"kernel$", ("data", None)),  # [in, out]
        (r"(tokens|position)/embedding$", (None, "data")),  # [V, D], [max_length, D]
    ),
    "tensor": (
        (r"(qkv|up)/kernel$", (None, "model")),  # [D, 3D], [D, F]
        (r"(qkv|up)/bias$", ("model",)),
        (r"(out|down)/kernel$", ("model", None)),  # [D, D], [F, D]
    ),
    "fsdp_tensor": (
        (r"(qkv|up)/kernel$", ("data", "model")),
        (r"(qkv|up)/bias$", ("model",)),
        (r"(out|down)/kernel$", ("model", "data")),
        (r"(tokens|position)/embedding$", (None, "data")),
    ),
}


class Block(nn.Module):
    """norm(x + attention(x)), then norm(x + feed_forward(x))."""

    num_heads: int
    mlp: str
    mlp_width: int
    norm_eps: float
    dropout: float
    train: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], mask: Bool[Array, "..."] | Mask | None
    ) -> tuple[Float[Array, "B T D"], None]:
        norm = partial(nn.LayerNorm, epsilon=self.norm_eps)
        drop = nn.Dropout(self.dropout, deterministic=not self.train)
        shared = {"bias": True, "kernel_init": INIT, "out_init": INIT}
        y, _ = Attention(self.num_heads, dropout=self.dropout, name="attention", **shared)(x, mask, train=self.train)
        x = shard_activations(norm(name="attention_norm")(x + drop(y)))
        y = FeedForward(self.mlp_width, self.mlp, name="feed_forward", **shared)(x)
        return shard_activations(norm(name="feed_forward_norm")(x + drop(y))), None


class Encoder(nn.Module):
    """Tokens -> their hidden states. Raises UserError for invalid attributes."""

    vocab_size: int
    max_length: int  # the most tokens attended to
    num_layers: int = 2
    num_heads: int = 2
    width: int = 128  # D
    num_segments: int = 2  # S
    mlp: str = "gelu_exact"  # or "gelu", "swiglu"
    mlp_width: int | None = None  # None: 4 width
    norm_eps: float = 1e-12
    dropout: float = 0.1  # of embeddings, attention weights and residual branches
    scan: bool = False  # one traced layer, parameters stacked: for more than a dozen layers
    remat: bool = False  # recompute each layer in the backward pass; saves memory with scan

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    def setup(self):
        self.tokens = nn.Embed(self.vocab_size, self.width, embedding_init=INIT)

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        mask: Bool[Array, "B T"] | Float[Array, "B T"] | None = None,
        token_type_ids: Int[Array, "B T"] | None = None,
        segment_ids: Int[Array, "B T"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "B T D"]:
        """`mask` is true for tokens and false for padding, which is not attended to (None: all are tokens); `token_type_ids`
        are in 0..S-1 (None: 0); by `segment_ids` tokens attend only to those of the same segment (None: to the whole row).
        Dropout needs `train=True` and `rngs={"dropout": key}`.
        """
        T = tokens.shape[1]
        if T > self.max_length:
            raise UserError(f"{T} tokens are more than the {self.max_length} of max_length")
        table = partial(nn.Embed, features=self.width, embedding_init=INIT)
        token_type_ids = jnp.zeros_like(tokens) if token_type_ids is None else token_type_ids
        x = self.tokens(tokens) + table(self.max_length, name="position")(jnp.arange(T))
        x = x + table(self.num_segments, name="segment")(token_type_ids)
        x = nn.LayerNorm(epsilon=self.norm_eps, name="embedding_norm")(x)
        x = shard_activations(nn.Dropout(self.dropout, deterministic=not train)(x))
        return self._layers(x, _attention_mask(mask, segment_ids), train)

    def logits(self, x: Float[Array, "*batch D"]) -> DeferredLogits:
        """Logits [..., V], by the table of token embeddings."""
        return DeferredLogits(x, self.tokens.embedding.astype(x.dtype))

    def _layers(
        self, x: Float[Array, "B T D"], mask: Bool[Array, "..."] | Mask | None, train: bool
    ) -> Float[Array, "B T D"]:
        block = nn.remat(Block, prevent_cse=not self.scan) if self.remat else Block
        if self.scan:
            block = nn.scan(
                block,
                variable_axes={"params": 0, "intermediates": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=nn.broadcast,
                length=self.num_layers,
            )
        block = partial(
            block,
            num_heads=self.num_heads,
            mlp=self.mlp,
            mlp_width=self.mlp_width or 4 * self.width,
            norm_eps=self.norm_eps,
            dropout=self.dropout,
            train=train,
        )
        for name in ["h"] if self.scan else [f"h_{i}" for i in range(self.num_layers)]:
            x, _ = block(name=name)(x, mask)
        return x


class Pooler(nn.Module):
    """tanh(W x + b) of the first token's vector, BERT's summary of a row."""

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B D"]:
        return jnp.tanh(nn.Dense(x.shape[-1], kernel_init=INIT, name="dense")(x[:, 0]))


class MaskedHead(nn.Module):
    """Logits [B, P, V] through `logits`, the product with the table of embeddings (section 3.1, "Masked LM")."""

    vocab_size: int
    activation: str
    norm_eps: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "B P D"], logits: Callable[[Float[Array, "B P D"]], DeferredLogits]
    ) -> DeferredLogits:
        x = nn.Dense(x.shape[-1], kernel_init=INIT, dot_general=flat_dot, name="dense")(x)
        x = nn.LayerNorm(epsilon=self.norm_eps, name="norm")(ACTIVATIONS[self.activation](x))
        return logits(x) + self.param("bias", nn.initializers.zeros, (self.vocab_size,))


class BertForPretraining(nn.Module):
    """An encoder with its two heads: masked tokens, and next-sentence prediction."""

    encoder: Encoder

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        mask: Bool[Array, "B T"] | Float[Array, "B T"] | None = None,
        token_type_ids: Int[Array, "B T"] | None = None,
        masked_positions: Int[Array, "B P"] | None = None,
        *,
        train: bool = False,
        defer_logits: bool = False,
    ) -> dict[str, Float32[Array, "B ..."] | DeferredLogits]:
        """-> {"mlm": f32[B, P, V], at `masked_positions` (None: at all T), "nsp": f32[B, 2]}.

        Class 0 of "nsp" means that the second segment follows the first in the text, class 1 that it does not.
        `defer_logits`: "mlm" is `DeferredLogits`, for a chunked loss.
        """
        x = self.encoder(tokens, mask, token_type_ids, train=train)
        nsp = nn.Dense(2, kernel_init=INIT, name="nsp")(Pooler(name="pooler")(x))
        if masked_positions is not None:
            x = shard_activations(jnp.take_along_axis(x, masked_positions[..., None], axis=1))
        head = MaskedHead(self.encoder.vocab_size, self.encoder.mlp, self.encoder.norm_eps, name="mlm")
        mlm = head(x, self.encoder.logits)
        return {"mlm": mlm if defer_logits else mlm.array(), "nsp": nsp.astype(jnp.float32)}


class BertForTokenLabels(nn.Module):
    """A class for each token (Devlin et al. 2019, section 5.3)."""

    encoder: Encoder
    num_classes: int

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        mask: Bool[Array, "B T"] | Float[Array, "B T"] | None = None,
        *,
        train: bool = False,
    ) -> Float32[Array, "B T N"]:
        x = self.encoder(tokens, mask, train=train)
        x = nn.Dropout(self.encoder.dropout, deterministic=not train)(x)
        dot = partial(flat_dot, preferred_element_type=jnp.float32)
        return nn.Dense(self.num_classes, kernel_init=INIT, dot_general=dot, name="head")(x)


def _attention_mask(
    mask: Bool[Array, "B T"] | Float[Array, "B T"] | None, segment_ids: Int[Array, "B T"] | None
) -> Bool[Array, "B 1 1 _ T"] | Mask | None:
    """The mask of `attend`; None allows everything."""
    keys = None if mask is None else mask.astype(bool)
    allowed = None if mask is None else keys[:, None, :]
    if segment_ids is not None:
        same = segment_ids[:, :, None] == segment_ids[:, None, :]
        allowed = same if allowed is None else same & allowed
    allowed = None if allowed is None else allowed[:, None, None]
    return Mask(allowed, keys) if segment_ids is None and mask is not None else allowed


def _check(model: Encoder) -> None:
    sizes = ("vocab_size", "num_layers", "num_heads", "width", "max_length", "num_segments", "mlp_width")
    for name in sizes:
        if (value := getattr(model, name)) is not None and value < 1:
            raise UserError(f"model.{name}={value}: want at least 1")
    if model.mlp not in ACTIVATIONS:
        raise UserError(f"unknown model.mlp {model.mlp!r}{nearest(model.mlp, ACTIVATIONS)}")
    if model.width % model.num_heads:
        raise UserError(f"model.width={model.width} does not divide by model.num_heads={model.num_heads}")
    if not 0 <= model.dropout < 1:
        raise UserError(f"model.dropout={model.dropout} is not in [0, 1)")

"""The transformer encoder-decoder (Vaswani et al. 2017, 1706.03762), post-norm or pre-norm.

Defaults are fairseq's: embeddings from N(0, 1/D), scaled by sqrt(D); projections and feed-forward from Glorot's uniform
(those of queries, keys and values with gain 1/sqrt(2)); biases 0. Marian (as Hugging Face has it) is `final_bias=True`.

Parameters, E encoder and L decoder layers of width D, F = mlp_width:

    tokens/embedding [V, D]                        source_tokens/embedding [V_source, D]   if not shared
    position/embedding [max_length, D]             source_position/embedding               if learned
    encoder_0/attention/qkv/{kernel [D, 3 D], bias [3 D]}      encoder_0/attention/out/{kernel [D, D], bias [D]}
    encoder_0/attention_norm/{scale, bias [D]}                 encoder_0/feed_forward_norm/{scale, bias [D]}
    encoder_0/feed_forward/up/{kernel [D, F], bias [F]}        encoder_0/feed_forward/down/{kernel [F, D], bias [D]}
    decoder_0/... the same, and between the two
    decoder_0/cross_attention/q/{kernel [D, D], bias [D]}      decoder_0/cross_attention/kv/{kernel [D, 2 D], bias [2 D]}
    decoder_0/cross_attention/out/{kernel [D, D], bias [D]}    decoder_0/cross_attention_norm/{scale, bias [D]}
    encoder_norm, decoder_norm/{scale, bias [D]}   if pre_norm
    head/kernel [D, V]                             if not tied
    final_bias [V]                                 if final_bias
    gate/{kernel [D, 1], bias [1]}                 if copy
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, DTypeLike, Float, Float32, Int, Shaped

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.nn.attention import Attention, Cache, CrossAttention, Memory
from research.nn.feed_forward import ACTIVATIONS, FeedForward
from research.nn.flash import Mask
from research.nn.logits import DeferredLogits, logits_dot
from research.nn.positions import sinusoids
from research.nn.softmax import softmax
from research.util.errors import UserError, nearest

POSITIONS = ("sinusoidal", "learned")
GLOROT = nn.initializers.glorot_uniform()
HALF_GLOROT = nn.initializers.variance_scaling(
    0.5, "fan_in", "uniform"
)  # gain 1/sqrt(2) for each [D, D] of a joint kernel

# As GPT's (research/models/text/gpt.py): Megatron's columns, then rows; embeddings are replicated under "tensor".
SHARDING = {
    "fsdp": (
        (r"kernel$", ("data", None)),  # [in, out]
        (r"embedding$", (None, "data")),  # [V, D], [max_length, D]
    ),
    "tensor": (
        (r"(qkv|q|kv|up|gate)/kernel$", (None, "model")),  # [D, 3 D], [D, D], [D, 2 D], [D, F]
        (r"(out|down)/kernel$", ("model", None)),  # [D, D], [F, D]
    ),
    "fsdp_tensor": (
        (r"(qkv|q|kv|up|gate)/kernel$", ("data", "model")),
        (r"(out|down)/kernel$", ("model", "data")),
        (r"embedding$", (None, "data")),
    ),
}


class Layer(nn.Module):
    """Self-attention, cross-attention to the source in a decoder, feed-forward.

    Around each of them: x + branch(norm(x)) with `pre_norm`, else norm(x + branch(x)).
    """

    cross: bool  # with cross-attention: a decoder's
    num_heads: int
    width: int
    mlp: str
    mlp_width: int
    pre_norm: bool
    norm_eps: float
    dropout: float
    attention_dropout: float
    activation_dropout: float

    def setup(self):
        norm = partial(nn.LayerNorm, epsilon=self.norm_eps)
        heads = {"num_heads": self.num_heads, "bias": True, "dropout": self.attention_dropout}
        self.attention = Attention(**heads, kernel_init=HALF_GLOROT, out_init=GLOROT)
        self.attention_norm = norm()
        if self.cross:
            self.cross_attention = CrossAttention(**heads, width=self.width, kernel_init=HALF_GLOROT, out_init=GLOROT)
            self.cross_attention_norm = norm()
        self.feed_forward = FeedForward(
            self.mlp_width, self.mlp, bias=True, dropout=self.activation_dropout, kernel_init=GLOROT, out_init=GLOROT
        )
        self.feed_forward_norm = norm()
        self.drop = nn.Dropout(self.dropout)

    def project(self, memory: Float[Array, "B S D"]) -> Memory:
        """The encoder's output -> this layer's cross-attention keys and values, f[B, S, H, K]."""
        return self.cross_attention.project(memory)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        mask: Bool[Array, "..."] | Mask,
        memory: Memory | None = None,
        memory_mask: Mask | None = None,
        cache: Cache | None = None,
        index: Int[Array, ""] | int = 0,
        *,
        train: bool = False,
        seen: Callable | None = None,
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        """-> x after the layer, the cache of the self-attention. Masks broadcast against [B, H, 1, T, S].

        `seen` is called with the weights of the cross-attention, f32[B, H, 1, T, S].
        """

        def around(x, norm, branch):
            y = self.drop(branch(norm(x) if self.pre_norm else x), deterministic=not train)
            return shard_activations(x + y) if self.pre_norm else shard_activations(norm(x + y))

        def attention(x):
            nonlocal cache
            y, cache = self.attention(x, mask, None, cache, index, train=train)
            return y

        x = around(x, self.attention_norm, attention)
        if self.cross:
            cross = partial(self.cross_attention, memory=memory, mask=memory_mask, train=train, seen=seen)
            x = around(x, self.cross_attention_norm, cross)
        return around(x, self.feed_forward_norm, partial(self.feed_forward, train=train)), cache


class Transformer(nn.Module):
    """Source and target tokens -> logits of the token after each target token. Raises UserError for invalid attributes."""

    vocab_size: int  # V
    max_length: int  # the most tokens of a source or a target
    encoder_layers: int = 2
    decoder_layers: int = 2
    num_heads: int = 4
    width: int = 128  # D
    mlp_width: int = 256  # F
    source_vocab_size: int | None = None  # if embeddings are not shared; None: vocab_size
    shared: bool = True  # one embedding for source and target
    tied: bool = True  # logits from the target's embedding
    scale_embedding: bool = True  # times sqrt(D)
    positions: str = "sinusoidal"  # or "learned"
    pre_norm: bool = False
    norm_eps: float = 1e-5
    mlp: str = "relu"  # "gelu", "gelu_exact", "silu", "swiglu"
    final_bias: bool = False  # added to the logits
    copy: bool = False  # pointer-generator: a token is said from the vocabulary, or copied from the source
    dropout: float = 0.0  # of embeddings and of each branch
    attention_dropout: float = 0.0  # of attention weights
    activation_dropout: float = 0.0  # of the feed-forward's hidden units

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    def setup(self):
        spread = nn.initializers.normal(self.width**-0.5)
        table = partial(nn.Embed, features=self.width, embedding_init=spread)
        self.tokens = table(self.vocab_size)
        if not self.shared:
            self.source_tokens = table(self.source_vocab_size or self.vocab_size)
        if self.positions == "learned":
            self.position, self.source_position = table(self.max_length), table(self.max_length)
        kinds = ("num_heads", "width", "mlp", "mlp_width", "pre_norm", "norm_eps")
        drops = ("dropout", "attention_dropout", "activation_dropout")
        layer = partial(Layer, **{k: getattr(self, k) for k in kinds + drops})
        self.encoder = [layer(cross=False) for _ in range(self.encoder_layers)]
        self.decoder = [layer(cross=True) for _ in range(self.decoder_layers)]
        if self.pre_norm:
            self.encoder_norm, self.decoder_norm = (nn.LayerNorm(epsilon=self.norm_eps) for _ in range(2))
        if not self.tied:
            self.head = nn.Dense(
                self.vocab_size, use_bias=False, kernel_init=spread, dot_general=logits_dot(defer=True)
            )
        if self.final_bias:
            self.final_bias_values = self.param("final_bias", nn.initializers.zeros, (self.vocab_size,))
        if self.copy:
            self.gate = nn.Dense(1, kernel_init=GLOROT)
        self.drop = nn.Dropout(self.dropout)

    def __call__(
        self,
        source: Int[Array, "B S"],
        source_mask: Shaped[Array, "B S"],
        tokens: Int[Array, "B T"],
        *,
        train: bool = False,
        defer_logits: bool = False,
    ) -> Float32[Array, "B T V"] | DeferredLogits:
        """`source_mask` is true or 1 for a token, false or 0 for padding.

        Padding after the last target token changes no logits before it. Dropout needs `train=True` and
        `rngs={"dropout": key}`. `defer_logits`: returns `DeferredLogits` for a chunked loss. With `copy` the logits are
        log-probabilities, and never deferred.
        """
        memory = self.encode(source, source_mask, train=train)
        return self.decode(tokens, memory, train=train, defer_logits=defer_logits)[0]

    def encode(
        self, source: Int[Array, "B S"], source_mask: Shaped[Array, "B S"], *, train: bool = False
    ) -> dict[str, Any]:
        """Source tokens -> the memory that `decode` attends to, computed once; the first axis of every leaf is B.

        {"layers": L times {"k", "v": f[B, S, H, K]}, "mask": bool[B, S]}, with `copy` also {"source": i32[B, S]}
        """
        table = self.tokens if self.shared else self.source_tokens
        x = self._embed(source, table, "source_position", 0, train)
        memory = self.encode_embedded(x, source_mask.astype(bool), train=train)
        return {**memory, "source": source} if self.copy else memory

    def encode_embedded(
        self, x: Float[Array, "B S D"], mask: Bool[Array, "B S"], *, train: bool = False
    ) -> dict[str, Any]:
        """Vectors of any origin, with their positions -> what `encode` makes of a source's, but for "source"."""
        for layer in self.encoder:
            x, _ = layer(x, _over_heads(mask), train=train)
        if self.pre_norm:
            x = self.encoder_norm(x)
        return {"layers": [layer.project(x) for layer in self.decoder], "mask": mask}

    def decode(
        self,
        tokens: Int[Array, "B T"],
        memory: dict[str, Any],
        cache: dict | None = None,
        *,
        train: bool = False,
        defer_logits: bool = False,
    ) -> tuple[Float32[Array, "B T V"] | DeferredLogits, dict | None]:
        """Target tokens and `encode`'s memory -> logits, and the cache T tokens later.

        With `cache` from `init_cache` the tokens continue those in the cache.
        """
        T = tokens.shape[1]
        start, caches = (0, [None] * self.decoder_layers) if cache is None else (cache["index"], cache["layers"])
        size = T if cache is None else caches[0]["k"].shape[2]
        if T > size:
            raise UserError(f"{T} tokens are more than the {size} of the cache")
        x = self._embed(tokens, self.tokens, "position", start, train)
        mask = (start + jnp.arange(T))[:, None] >= jnp.arange(size)
        mask = Mask(mask, causal=True) if cache is None else mask
        after, memory_mask = [], _over_heads(memory["mask"])
        weights: list[Array] = []  # of the last layer's cross-attention
        for layer, kv, layer_cache in zip(self.decoder, memory["layers"], caches, strict=True):
            seen = weights.append if self.copy and layer is self.decoder[-1] else None
            x, layer_cache = layer(x, mask, kv, memory_mask, layer_cache, start, train=train, seen=seen)
            after.append(layer_cache)
        if self.pre_norm:
            x = self.decoder_norm(x)
        if self.tied:
            logits = logits_dot(defer=True)(x, self.tokens.embedding.astype(x.dtype), (((2,), (1,)), ((), ())))
        else:
            logits = self.head(x)
        if self.final_bias:
            logits += self.final_bias_values
        if self.copy:
            logits = copied(logits.array(), self.gate(x), weights[0].mean((1, 2)), memory["source"])
        elif not defer_logits:
            logits = logits.array()
        return logits, None if cache is None else {"layers": after, "index": start + T}

    @nn.nowrap
    def init_cache(self, batch: int, length: int, dtype: DTypeLike = jnp.float32) -> dict:
        """An empty cache for `length` target tokens of `batch` rows: {"index": i32[], "layers": L {"k", "v": f[B, H, T, K]}}."""
        if not 1 <= length <= self.max_length:
            raise UserError(f"cache length {length} is not in 1..max_length={self.max_length}")
        shape = (batch, self.num_heads, length, self.width // self.num_heads)
        layers = [{n: jnp.zeros(shape, dtype) for n in "kv"} for _ in range(self.decoder_layers)]
        return {"layers": layers, "index": jnp.zeros((), jnp.int32)}

    def _embed(
        self, tokens: Int[Array, "B T"], table: nn.Embed, position: str, start: Int[Array, ""] | int, train: bool
    ) -> Float[Array, "B T D"]:
        if tokens.shape[1] > self.max_length:
            raise UserError(f"{tokens.shape[1]} tokens are more than max_length={self.max_length}")
        x, at = table(tokens), start + jnp.arange(tokens.shape[1])
        if self.scale_embedding:
            x = x * self.width**0.5
        if self.positions == "learned":
            x = x + getattr(self, position)(at)
        else:
            x = x + sinusoids(at, self.width).astype(x.dtype)
        return shard_activations(self.drop(x, deterministic=not train))


def copied(
    logits: Float32[Array, "B T V"],
    gate: Float[Array, "B T 1"],
    weights: Float32[Array, "B T S"],
    source: Int[Array, "B S"],
) -> Float32[Array, "B T V"]:
    """log(p softmax(logits) + (1 - p) c), p = sigmoid(gate), c(v) the sum of the weights at places where the source is v.

    The pointer-generator of See et al. 2017 (1704.04368), equation 9, over one vocabulary of pieces, so that no source has a
    token outside of it. p is of the decoder's output alone, which holds their context and input through its residuals. The
    weights of a source's tokens sum to 1. Probabilities below f32's least normal number count as it.

    >>> weights, source = jnp.array([[[0.25, 0.75]]]), jnp.array([[2, 2]])
    >>> jnp.exp(copied(jnp.zeros((1, 1, 4)), jnp.zeros((1, 1, 1)), weights, source)).round(3).tolist()
    [[[0.125, 0.125, 0.625, 0.125]]]
    """
    p = nn.sigmoid(gate.astype(jnp.float32))
    zero = jnp.zeros(logits.shape[1:], jnp.float32)
    copies = jax.vmap(lambda row, tokens: zero.at[:, tokens].add(row))(weights, source)
    mixed = p * softmax(logits) + (1 - p) * copies
    return jnp.log(jnp.maximum(mixed, jnp.finfo(jnp.float32).tiny))


def _over_heads(keys: Bool[Array, "B S"]) -> Mask:
    """Keys, false for padding -> their mask, bool[B, 1, 1, 1, S]."""
    return Mask(keys[:, None, None, None, :], keys)


def _check(model: Transformer) -> None:
    sizes = (
        "vocab_size", "encoder_layers", "decoder_layers", "num_heads", "width", "mlp_width", "max_length",
        "source_vocab_size",
    )  # fmt: skip
    for name in sizes:
        if (value := getattr(model, name)) is not None and value < 1:
            raise UserError(f"model.{name}={value}: want at least 1")
    for name, known in {"positions": POSITIONS, "mlp": ACTIVATIONS}.items():
        if (value := getattr(model, name)) not in known:
            raise UserError(f"unknown model.{name} {value!r}{nearest(value, known)}")
    if model.width % model.num_heads:
        raise UserError(f"model.width={model.width} does not divide by model.num_heads={model.num_heads}")
    if model.positions == "sinusoidal" and model.width % 2:
        raise UserError(f"sinusoidal positions want an even model.width, not {model.width}")
    if model.shared and model.source_vocab_size not in (None, model.vocab_size):
        raise UserError(
            f"model.shared wants one vocabulary: {model.source_vocab_size} tokens of the source, {model.vocab_size} of "
            "the target"
        )
    if model.copy and not model.shared:
        raise UserError("model.copy=True copies tokens of the source: it wants one vocabulary, model.shared=True")
    for name in ("dropout", "attention_dropout", "activation_dropout"):
        if not 0 <= (value := getattr(model, name)) < 1:
            raise UserError(f"model.{name}={value} is not in [0, 1)")

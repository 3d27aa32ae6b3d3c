"""A recurrent classifier of texts: embeddings, LSTM or GRU layers in one direction or both, pooling, a linear layer.

Pooling is by attention (Bahdanau et al. 2015, 1409.0473, with a learned query, as Jain & Wallace 2019, 1902.10186, have it),
by the last states, the mean or the maximum. Parameters, H units per direction, S = H, or 2 H with both directions:

    tokens/embedding [V, D]                    layer_0/{forward,backward}/...   a layer's: see research/nn/recurrent.py
    attention/hidden/{kernel [S, A], bias [A]} attention/score/kernel [A, 1]    if pooled by attention
    head/{kernel [S, N], bias [N]}                                              N = 1 with single_logit
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32, Int

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.nn.initializers import uniform
from research.nn.linear import flat_dot
from research.nn.recurrent import GRU, LSTM, Bidirectional, Carry
from research.util.errors import UserError, nearest

CELLS = {"lstm": LSTM, "gru": GRU}
POOLS = ("attention", "last", "mean", "max")

SHARDING = {"fsdp": ((r"(kernel|embedding)$", "fsdp"),)}


class TanhAttention(nn.Module):
    """softmax over a row's tokens of v . tanh(W h + b).

    Tokens that are not inside have weight 0 exactly. `width` is A, the hidden units; None: half of S.
    """

    width: int | None = None

    @nn.compact
    def __call__(self, states: Float[Array, "B T S"], inside: Bool[Array, "B T"]) -> Float32[Array, "B T"]:
        width = self.width or states.shape[-1] // 2
        hidden = jnp.tanh(nn.Dense(width, dot_general=flat_dot, name="hidden")(states))
        scores = nn.Dense(1, use_bias=False, dot_general=flat_dot, name="score")(hidden)[..., 0].astype(jnp.float32)
        return jax.nn.softmax(jnp.where(inside, scores, jnp.finfo(jnp.float32).min))


class TextRecurrent(nn.Module):
    """Texts and their lengths -> logits. Raises UserError for invalid attributes."""

    vocab_size: int
    num_classes: int
    width: int = 128  # D, of embeddings
    hidden: int = 128  # H, units per direction
    num_layers: int = 1
    cell: str = "lstm"  # or "gru"
    bidirectional: bool = True
    pool: str = "attention"  # or "last", "mean", "max"
    attention_width: int | None = None  # A; None: S / 2
    embedding_scale: float = 0.05  # initial embeddings are uniform in -scale..scale
    dropout: float = 0.0  # of every layer's input, one mask per text, and of the pooled vector
    recurrent_dropout: float = 0.0  # of the state that the gates read, one mask per text
    forget_bias: float = 0.0  # lstm: added to the forget gates' biases at the start
    single_logit: bool = False  # two classes: the first's logit is 0, so that the softmax is the second's sigmoid

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B T"], length: Int[Array, " B"], *, train: bool = False
    ) -> Float32[Array, "B N"]:
        """Tokens beyond a row's length are ignored. Dropout needs `train=True` and `rngs={"dropout": key}`."""
        embed = nn.Embed(self.vocab_size, self.width, embedding_init=uniform(self.embedding_scale), name="tokens")
        x = shard_activations(embed(tokens))
        inside = jnp.arange(tokens.shape[1]) < length[:, None]
        layer = partial(CELLS[self.cell], self.hidden, dropout=self.dropout, recurrent_dropout=self.recurrent_dropout)
        if self.cell == "lstm":
            layer = partial(layer, forget_bias=self.forget_bias)
        ends: tuple = ()
        for i in range(self.num_layers):
            if self.bidirectional:
                x, ends = Bidirectional(layer, name=f"layer_{i}")(x, None, length, train=train)
            else:
                x, end = layer(name=f"layer_{i}")(x, None, length, train=train)
                ends = (end,)
        x = self._pool(x, ends, inside, length)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        logits = nn.Dense(1 if self.single_logit else self.num_classes, name="head")(x).astype(jnp.float32)
        return jnp.pad(logits, ((0, 0), (1, 0))) if self.single_logit else logits

    def _pool(
        self,
        x: Float[Array, "B T S"],
        ends: tuple[Carry, ...],
        inside: Bool[Array, "B T"],
        length: Int[Array, " B"],
    ) -> Float[Array, "B S"]:
        if self.pool == "attention":
            weights = TanhAttention(self.attention_width, name="attention")(x, inside)
            return jnp.einsum("bt,bts->bs", weights.astype(x.dtype), x)
        if self.pool == "last":
            return jnp.concatenate([end["h"] for end in ends], -1).astype(x.dtype)
        if self.pool == "mean":
            return x.sum(1) / length[:, None].astype(x.dtype)  # beyond a row's length outputs are 0
        return jnp.where(inside[..., None], x, jnp.finfo(x.dtype).min).max(1)


def _check(model: TextRecurrent) -> None:
    for name in ("width", "hidden", "num_layers", "attention_width"):
        if (value := getattr(model, name)) is not None and value < 1:
            raise UserError(f"model.{name} = {value}: at least 1")
    for name, known in {"cell": CELLS, "pool": POOLS}.items():
        if (value := getattr(model, name)) not in known:
            raise UserError(f"model.{name} = {value!r}{nearest(value, known)}")
    for name in ("dropout", "recurrent_dropout"):
        if not 0 <= (value := getattr(model, name)) < 1:
            raise UserError(f"model.{name} = {value}: from 0 to below 1")
    if model.forget_bias and model.cell != "lstm":
        raise UserError(f"model.forget_bias = {model.forget_bias} is for model.cell = 'lstm'")
    if model.single_logit and model.num_classes != 2:
        raise UserError(f"model.single_logit = True is for two classes; there are {model.num_classes}")
    if model.attention_width is not None and model.pool != "attention":
        raise UserError(f"model.attention_width = {model.attention_width} is for model.pool = 'attention'")

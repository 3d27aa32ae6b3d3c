"""Recurrent language models: word embedding, L layers of LSTM or GRU, softmax.

Zaremba et al. 2014 (1409.2329), with the four dropouts of Gal & Ghahramani 2016 (1512.05287): of word types at the
embedding, and with one mask per sequence of every layer's inputs, of its state, and of the softmax's inputs.

Parameters, H units, E the embedding's width, G 4 for an LSTM and 3 for a GRU:

    tokens/embedding [V, E]
    layer_0/input/kernel [E, G H]     layer_0/input/bias [G H]
    layer_0/recurrent_kernel [H, G H]     layer_0/recurrent_bias [H]   a GRU's
    head/kernel [H, V]                if not tied
    head_bias [V]
"""

from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import DTypeLike, Float32, Int

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.nn import recurrent
from research.nn.logits import DeferredLogits, logits_dot
from research.util.errors import UserError

Logits = Float32[Array, "B T V"] | DeferredLogits

# (regex on a parameter's path, mesh axes of its last dimensions). No "tensor": it would split the gates' columns.
SHARDING = {
    "fsdp": (
        (r"kernel$", ("data", None)),  # [in, out]
        (r"embedding$", (None, "data")),  # [V, E]
    ),
}
# The state carried from batch to batch: its rows are sharded as the batch's rows.
CARRY_SHARDING = ((r"^model_state/carry/", ("data", None)),)
DROPOUTS = ("embedding_dropout", "input_dropout", "recurrent_dropout", "output_dropout")


class RecurrentLM(nn.Module):
    """Tokens -> logits of the next ones. Raises UserError for invalid attributes."""

    vocab_size: int
    num_layers: int = 2
    width: int = 128  # H
    embedding_width: int | None = None  # E; None: width
    tied: bool = True  # logits from the token embedding (Press & Wolf 2017, 1608.05859)
    embedding_dropout: float = 0.0  # of word types
    input_dropout: float = 0.0  # of every layer's inputs
    recurrent_dropout: float = 0.0  # of every layer's state
    output_dropout: float = 0.0  # of the last layer's outputs
    init_range: float | None = None  # every parameter from U(-r, r); None: each layer's own

    layer: ClassVar[type[recurrent.Recurrent]]
    rewinds: ClassVar[bool] = False  # see research/generation/decoding.py: tokens cannot be removed from the state

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        cache: dict | None = None,
        *,
        train: bool = False,
        defer_logits: bool = False,
    ) -> Logits | tuple[Logits, dict]:
        """Returns logits, or with `cache` from `init_cache` (logits, the cache T tokens later).

        Dropout needs `train=True` and `rngs={"dropout": key}`. `defer_logits`: returns `DeferredLogits` for a chunked loss.
        """
        carries = {} if cache is None else cache["layers"]
        embed = nn.Embed(self.vocab_size, self._embedding_width, name="tokens", **self._init("embedding_init"))
        x = embed(tokens)
        if train and self.embedding_dropout:
            x = recurrent.drop_types(x, tokens, self.embedding_dropout, self.make_rng("dropout"))
        x, after = shard_activations(x), {}
        for name in self._names:
            x, after[name] = self._layer(name)(x, carries.get(name), train=train)
        x = recurrent.drop_sequence(self.output_dropout, train, name="output_dropout")(x)
        dot = logits_dot(defer_logits)
        if self.tied:
            logits = dot(x, embed.embedding.astype(x.dtype), (((2,), (1,)), ((), ())))
        else:
            head = partial(nn.Dense, self.vocab_size, use_bias=False, **self._init("kernel_init"))
            logits = head(dot_general=dot, name="head")(x)
        bias = self.param("head_bias", self._uniform() or nn.initializers.zeros, (self.vocab_size,))
        logits += bias.astype(jnp.float32)
        return logits if cache is None else (logits, {"layers": after, "index": cache["index"] + tokens.shape[1]})

    @nn.nowrap
    def init_cache(self, batch: int, length: int = 1, dtype: DTypeLike = jnp.float32) -> dict:
        """An empty cache for `batch` rows, to pass to `apply(..., cache=)`.

        {"index": i32[], the number of tokens read; "layers": {"layer_0": its state, ...}}. States are f32 and of one size:
        `length` and `dtype` are ignored, and are there because a transformer's cache has them.
        """
        layers = {name: self._layer(name, parent=None).initial_carry(batch) for name in self._names}
        return {"layers": layers, "index": jnp.zeros((), jnp.int32)}

    @property
    def max_length(self) -> int:
        """The most tokens that can be read: unlimited, the largest i32."""
        return 2**31 - 1

    @property
    def _names(self) -> list[str]:
        return [f"layer_{i}" for i in range(self.num_layers)]

    @property
    def _embedding_width(self) -> int:
        return self.embedding_width or self.width

    @nn.nowrap
    def _layer(self, name: str, **more) -> recurrent.Recurrent:
        inits = self._init("kernel_init", "recurrent_init", "bias_init")
        drops = {"dropout": self.input_dropout, "recurrent_dropout": self.recurrent_dropout}
        return self.layer(self.width, name=name, **drops, **inits, **self._options(), **more)

    @nn.nowrap
    def _options(self) -> dict:
        return {}

    @nn.nowrap
    def _uniform(self) -> recurrent.Initializer | None:
        if (r := self.init_range) is None:
            return None
        return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -r, r)

    @nn.nowrap
    def _init(self, *names: str) -> dict:
        uniform = self._uniform()
        return {} if uniform is None else dict.fromkeys(names, uniform)


class LSTMLM(RecurrentLM):
    forget_bias: float = 0.0  # added to the forget gates' biases at the start

    layer = recurrent.LSTM

    @nn.nowrap
    def _options(self):
        return {"forget_bias": self.forget_bias}


class GRULM(RecurrentLM):
    layer = recurrent.GRU


def _check(model: RecurrentLM) -> None:
    for name in ("vocab_size", "num_layers", "width", "embedding_width"):
        if (value := getattr(model, name)) is not None and value < 1:
            raise UserError(f"model.{name}={value}: want at least 1")
    for name in DROPOUTS:
        if not 0 <= (value := getattr(model, name)) < 1:
            raise UserError(f"model.{name}={value} is not in [0, 1)")
    if model.tied and (model.embedding_width or model.width) != model.width:
        raise UserError(
            f"model.tied wants one width, not embedding_width={model.embedding_width} and width={model.width}"
        )
    if model.init_range is not None and model.init_range <= 0:
        raise UserError(f"model.init_range={model.init_range}: above 0, or None")

"""GPT: a decoder-only transformer, from GPT-2 (Radford et al. 2019) to Llama (2302.13971).

Defaults are nanoGPT's: learned positions, LayerNorm, GELU, tied embeddings, no biases,
weights from N(0, 0.02), the last of each residual branch from N(0, 0.02 / sqrt(2 L)).
A Llama is `positions="rotary", norm="rmsnorm", mlp="swiglu", tied=False`.

Parameters, L layers (with `scan` the paths read `h/...` and the shapes gain a leading L):

    tokens/embedding [V, D]                   position/embedding [max_length, D]   if learned
    h_0/attention_norm/scale [D]              h_0/feed_forward_norm/scale [D]
    h_0/attention/qkv/kernel [D, N(G+2)K]     h_0/attention/out/kernel [D, D]
    h_0/feed_forward/up/kernel [D, F]         h_0/feed_forward/down/kernel [F, D]
    h_0/feed_forward/gate/kernel [D, F]       if swiglu
    h_0/feed_forward/router/kernel [D, E]     if experts > 1; up, down and gate then gain a leading E
    final_norm/scale [D]                      head/kernel [D, V]                   if not tied
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, DTypeLike, Float, Int

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.nn.attention import Attention, Cache, angles
from research.nn.feed_forward import ACTIVATIONS, FeedForward
from research.nn.flash import Mask
from research.nn.logits import DeferredLogits, logits_dot
from research.nn.moe import MixtureOfExperts
from research.util.errors import UserError, nearest

Logits = Float[Array, "B T _"] | DeferredLogits  # of V, or without a head D
NORMS = {"layernorm": nn.LayerNorm, "rmsnorm": nn.RMSNorm}
POSITIONS = ("learned", "rotary")

# (regex on a parameter's path, mesh axes of its last dimensions); None is unsharded. Counted from
# the right, one rule serves h_0/... [D, F] and the scanned h/... [L, D, F].
SHARDING = {
    "fsdp": (
        (r"kernel$", ("data", None)),  # [in, out]
        (r"embedding$", (None, "data")),  # [V, D], [max_length, D]
    ),
    # Megatron (1909.08053): columns, then rows; one all-reduce a branch. kv_heads and F must
    # be multiples of the model axis. Embeddings are replicated: few vocabularies divide.
    "tensor": (
        (r"(qkv|up|gate)/kernel$", (None, "model")),  # [D, N(G+2)K], [D, F]
        (r"(out|down)/kernel$", ("model", None)),  # [D, D], [F, D]
    ),
    # Each expert's matrices and their moments on one part of the axis. A step gathers those that it uses.
    "expert": ((r"feed_forward/(up|gate|down)/kernel$", ("model", None, None)),),  # [E, D, F], [E, F, D]
    "fsdp_tensor": (
        (r"(qkv|up|gate)/kernel$", ("data", "model")),  # [D, N(G+2)K], [D, F]
        (r"(out|down)/kernel$", ("model", "data")),  # [D, D], [F, D]
        (r"embedding$", (None, "data")),  # [V, D], [max_length, D]
    ),
}


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    num_layers: int  # sets the scale of the residual projections' initial weights
    num_heads: int
    kv_heads: int
    norm: str
    norm_eps: float
    mlp: str
    mlp_width: int
    experts: int
    experts_per_token: int
    bias: bool
    dropout: float
    train: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        cache: Cache | None,
        mask: Bool[Array, "..."] | Mask,
        rotary: Float[Array, "T _"] | Float[Array, "B T _"] | None,
        index: Int[Array, ""] | Int[Array, " B"] | int,
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        norm = _norm(self.norm, self.norm_eps, self.bias)
        drop = nn.Dropout(self.dropout, deterministic=not self.train)
        scaled = nn.initializers.normal(0.02 / (2 * self.num_layers) ** 0.5)
        shared = {"bias": self.bias, "out_init": scaled}
        attention = Attention(self.num_heads, self.kv_heads, dropout=self.dropout, name="attention", **shared)
        if self.experts > 1:
            kind = partial(MixtureOfExperts, self.experts, self.experts_per_token)
        else:
            kind = FeedForward
        feed_forward = kind(self.mlp_width, self.mlp, name="feed_forward", **shared)
        y = norm(name="attention_norm")(x)
        y, cache = attention(y, mask, rotary, cache, index, train=self.train)
        x = shard_activations(x + drop(y))
        y = feed_forward(norm(name="feed_forward_norm")(x))
        return shard_activations(x + drop(y)), cache


class GPT(nn.Module):
    """Tokens -> logits of the next ones. Raises UserError for invalid attributes."""

    vocab_size: int
    max_length: int  # the most tokens attended to
    num_layers: int = 4
    num_heads: int = 4
    width: int = 128  # D
    kv_heads: int | None = None  # key and value heads; None: num_heads
    positions: str = "learned"  # or "rotary"
    rotary_base: float = 10_000.0  # Llama 3: 500_000
    norm: str = "layernorm"  # or "rmsnorm"
    norm_eps: float = 1e-5
    mlp: str = "gelu"  # or "gelu_exact", "swiglu"
    mlp_width: int | None = None  # None: 4 width, or for swiglu 8/3 width, rounded up to a multiple of 64
    experts: int = 1  # feed-forward layers per block, of `mlp_width` each; 1: no router
    experts_per_token: int = 2  # of these, the number that a token passes through
    balance: float = 0.01  # weight of the router's balance loss, which the training loss adds
    tied: bool = True  # logits from the token embedding
    head: bool = True  # False: returns the final hidden states f[B, T, D] in place of logits; with tied=True
    bias: bool = False
    dropout: float = 0.0
    scan: bool = False  # one traced layer, parameters stacked: for more than a dozen layers
    remat: bool = False  # recompute each layer in the backward pass; saves memory with scan

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        cache: dict | None = None,
        segment_ids: Int[Array, "B T"] | None = None,
        position_ids: Int[Array, "B T"] | None = None,
        *,
        train: bool = False,
        defer_logits: bool = False,
    ) -> Logits | tuple[Logits, dict]:
        """Returns logits, or with `cache` from `init_cache` (logits, the cache T tokens later).

        The tokens then continue those in the cache; tokens beyond its size overwrite its
        end. A cache whose "index" is i32[B] may hold a different number of tokens in each row.
        Without a cache, tokens attend only to earlier ones of the same `segment_ids` (None: to all),
        and have positions `position_ids` (None: 0..T-1). Dropout needs `train=True` and
        `rngs={"dropout": key}`. `defer_logits`: returns `DeferredLogits` for a chunked loss.
        """
        T = tokens.shape[1]
        start, layers = (0, None) if cache is None else (cache["index"], cache["layers"])
        size = T if cache is None else jax.tree.leaves(layers)[0].shape[-2]
        if T > (limit := self.max_length if cache is None else size):
            raise UserError(f"{T} tokens are more than the {limit} of max_length or of the cache")
        normal = nn.initializers.normal(0.02)
        embed = nn.Embed(self.vocab_size, self.width, embedding_init=normal, name="tokens")
        x, rotary, at = embed(tokens), None, jnp.asarray(start)[..., None] + jnp.arange(T)
        positions = at if position_ids is None else position_ids
        if self.positions == "learned":
            table = nn.Embed(self.max_length, self.width, embedding_init=normal, name="position")
            x = x + table(positions)
        else:
            rotary = angles(positions, self.width // self.num_heads, self.rotary_base)
        x = shard_activations(nn.Dropout(self.dropout, deterministic=not train)(x))

        mask = at[..., None] >= jnp.arange(size)
        if segment_ids is not None:
            mask = mask & (segment_ids[:, :, None] == segment_ids[:, None, :])
        mask = mask[:, None, None] if mask.ndim == 3 else mask
        if cache is None and segment_ids is None:
            mask = Mask(mask, causal=True)
        x, layers = self._layers(x, layers, mask, rotary, start, train)
        x = _norm(self.norm, self.norm_eps, self.bias)(name="final_norm")(x)
        dot = logits_dot(defer_logits)
        if not self.head:
            logits = x
        elif self.tied:
            logits = dot(x, embed.embedding.astype(x.dtype), (((2,), (1,)), ((), ())))
        else:
            head = partial(nn.Dense, self.vocab_size, use_bias=False, kernel_init=normal)
            logits = head(dot_general=dot, name="head")(x)
        return logits if cache is None else (logits, {"layers": layers, "index": start + T})

    def _layers(
        self,
        x: Float[Array, "B T D"],
        caches: dict | list | None,
        mask: Bool[Array, "..."] | Mask,
        rotary: Float[Array, "T _"] | Float[Array, "B T _"] | None,
        start: Int[Array, ""] | Int[Array, " B"] | int,
        train: bool,
    ) -> tuple[Float[Array, "B T D"], dict | list | None]:
        """All blocks: x after them, and their caches, in the layout of `caches`."""
        block = nn.remat(Block, prevent_cse=not self.scan) if self.remat else Block
        if self.scan:
            block = nn.scan(
                block,
                variable_axes={"params": 0, "intermediates": 0, "routing": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
                length=self.num_layers,
            )
        block = partial(
            block,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            kv_heads=self.kv_heads or self.num_heads,
            norm=self.norm,
            norm_eps=self.norm_eps,
            mlp=self.mlp,
            mlp_width=self.mlp_width or mlp_width(self),
            experts=self.experts,
            experts_per_token=self.experts_per_token,
            bias=self.bias,
            dropout=self.dropout,
            train=train,
        )
        if self.scan:
            return block(name="h")(x, caches, mask, rotary, start)
        after = []
        for i in range(self.num_layers):
            cache = None if caches is None else caches[i]
            x, cache = block(name=f"h_{i}")(x, cache, mask, rotary, start)
            after.append(cache)
        return x, after

    @nn.nowrap
    def init_cache(self, batch: int, length: int, dtype: DTypeLike = jnp.float32) -> dict:
        """An empty cache for `length` tokens of `batch` rows, to pass to `apply(..., cache=)`.

        {"index": i32[], the number of tokens held, which may be made i32[B]; "layers": a list of L
        {"k", "v": f[B, N, S, K]}, or with scan one with a leading L}. `dtype` is the
        computation's. Raises UserError unless 1 <= length <= max_length.
        """
        if not 1 <= length <= self.max_length:
            raise UserError(f"cache length {length} is not in 1..max_length={self.max_length}")
        N, K = self.kv_heads or self.num_heads, self.width // self.num_heads
        lead = (self.num_layers,) if self.scan else ()

        def layer() -> dict[str, Float[Array, "*lead B N S K"]]:
            return {n: jnp.zeros((*lead, batch, N, length, K), dtype) for n in "kv"}

        layers = layer() if self.scan else [layer() for _ in range(self.num_layers)]
        return {"layers": layers, "index": jnp.zeros((), jnp.int32)}


def stack(params: dict) -> dict:
    """The parameters of an unrolled GPT, `h_0 ...`, in the layout of `scan=True`, `h`."""
    blocks = [params[f"h_{i}"] for i in range(sum(k.startswith("h_") for k in params))]
    others = {k: v for k, v in params.items() if not k.startswith("h_")}
    return {**others, "h": jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)}


def unstack(params: dict) -> dict:
    """The inverse of `stack`."""
    others = {k: v for k, v in params.items() if k != "h"}
    num_layers = jax.tree.leaves(params["h"])[0].shape[0]
    return others | {
        f"h_{i}": jax.tree.map(lambda leaf: leaf[i], params["h"])  # noqa: B023
        for i in range(num_layers)
    }


def _norm(name: str, eps: float, bias: bool):
    """The constructor of a norm, without its name. RMSNorm has no bias, and no option for it."""
    return partial(NORMS[name], epsilon=eps, **({"use_bias": bias} if name == "layernorm" else {}))


def mlp_width(model: GPT) -> int:
    if model.mlp != "swiglu":
        return 4 * model.width
    return -(-8 * model.width // (3 * 64)) * 64  # three matrices of 2/3 the width: as many weights


def _check(model: GPT) -> None:
    sizes = (
        "vocab_size",
        "num_layers",
        "num_heads",
        "width",
        "max_length",
        "kv_heads",
        "mlp_width",
        "experts",
        "experts_per_token",
    )
    for name in sizes:
        if (value := getattr(model, name)) is not None and value < 1:
            raise UserError(f"model.{name}={value}: want at least 1")
    for name, known in {"positions": POSITIONS, "norm": NORMS, "mlp": ACTIVATIONS}.items():
        if (value := getattr(model, name)) not in known:
            raise UserError(f"unknown model.{name} {value!r}{nearest(value, known)}")
    if model.width % model.num_heads:
        raise UserError(f"model.width={model.width} does not divide by model.num_heads={model.num_heads}")
    if model.num_heads % (model.kv_heads or 1):
        raise UserError(f"model.num_heads={model.num_heads} does not divide by model.kv_heads={model.kv_heads}")
    if model.positions == "rotary" and (size := model.width // model.num_heads) % 2:
        raise UserError(f"rotary positions want an even width / num_heads, not {size}")
    if 1 < model.experts < model.experts_per_token:
        raise UserError(
            f"model.experts_per_token={model.experts_per_token} are more than model.experts={model.experts}"
        )
    if not model.head and not model.tied:
        raise UserError(
            "model.head=False with model.tied=False: without a head there is nothing to untie; set tied to True"
        )
    if model.balance < 0:
        raise UserError(f"model.balance={model.balance}: at least 0")
    if not 0 <= model.dropout < 1:
        raise UserError(f"model.dropout={model.dropout} is not in [0, 1)")

"""BERT and the translation transformer in plain PyTorch, for comparison with ours. Does not import JAX."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.dev.bench.bench_torch_layers import ACTIVATIONS, Attention, CrossAttention, FeedForward, Model, sinusoids


class Layer(nn.Module):
    """A post-norm layer: x [B, T, D] -> [B, T, D]. `cross` adds attention to a memory [B, S, D]."""

    def __init__(
        self, width: int, heads: int, hidden: int, activation: str, dropout: float, eps: float,
        attention_dropout: float, activation_dropout: float = 0.0, cross: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.attention = Attention(width, heads, True, attention_dropout)
        self.attention_norm = nn.LayerNorm(width, eps)
        if cross:
            self.cross_attention = CrossAttention(width, heads, True, attention_dropout)
            self.cross_attention_norm = nn.LayerNorm(width, eps)
        self.feed_forward = FeedForward(width, hidden, activation, True, activation_dropout)
        self.feed_forward_norm = nn.LayerNorm(width, eps)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None, memory: Tensor | None = None, memory_mask: Tensor | None = None
    ) -> Tensor:
        x = self.attention_norm(x + self.drop(self.attention(x, mask, causal=memory is not None)))
        if memory is not None:
            x = self.cross_attention_norm(x + self.drop(self.cross_attention(x, memory, memory_mask)))
        return self.feed_forward_norm(x + self.drop(self.feed_forward(x)))


class Encoder(nn.Module):
    """tokens, segments i64[B, T], mask bool[B, T] -> [B, T, D]."""

    def __init__(
        self, vocab_size: int, max_length: int, num_layers: int, num_heads: int, width: int, num_segments: int,
        mlp: str, mlp_width: int, norm_eps: float, dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width)
        self.position = nn.Embedding(max_length, width)
        self.segment = nn.Embedding(num_segments, width)
        self.embedding_norm = nn.LayerNorm(width, norm_eps)
        self.drop = nn.Dropout(dropout)
        self.layers = [f"h_{i}" for i in range(num_layers)]
        for name in self.layers:
            self.add_module(name, Layer(width, num_heads, mlp_width, mlp, dropout, norm_eps, dropout))

    def forward(self, tokens: Tensor, segments: Tensor, mask: Tensor) -> Tensor:
        at = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.position(at) + self.segment(segments)
        x = self.drop(self.embedding_norm(x))
        for name in self.layers:
            x = getattr(self, name)(x, mask[:, None, None, :])
        return x


class Pooler(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.dense(x[:, 0]))


class MaskedHead(nn.Module):
    """x [B, P, D] and the embedding table [V, D] -> logits [B, P, V]."""

    def __init__(self, width: int, vocab_size: int, activation: str, eps: float):
        super().__init__()
        self.dense, self.norm = nn.Linear(width, width), nn.LayerNorm(width, eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        return F.linear(self.norm(self.activation(self.dense(x))), table, self.bias)


class BERT(Model):
    """The same as our `bert.BertForPretraining`: masked tokens, and next-sentence prediction."""

    def __init__(
        self, vocab_size: int, max_length: int, num_layers: int, num_heads: int, width: int, num_segments: int = 2,
        mlp: str = "gelu_exact", mlp_width: int | None = None, norm_eps: float = 1e-12, dropout: float = 0.1,
    ):  # fmt: skip
        super().__init__()
        self.heads = num_heads
        self.encoder = Encoder(
            vocab_size, max_length, num_layers, num_heads, width, num_segments, mlp, mlp_width or 4 * width, norm_eps,
            dropout,
        )  # fmt: skip
        self.pooler, self.nsp = Pooler(width), nn.Linear(width, 2)
        self.mlm = MaskedHead(width, vocab_size, mlp, norm_eps)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """-> logits [B, P, V] of the masked tokens, and logits [B, 2] of the pair."""
        x = self.encoder(batch["tokens"], batch["token_type_ids"], batch["token_mask"])
        at = batch["masked_positions"][..., None].expand(-1, -1, x.shape[-1])
        return self.mlm(x.gather(1, at), self.encoder.tokens.weight), self.nsp(self.pooler(x))

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        mlm, nsp = self(batch)
        return self.cross_entropy(mlm, batch["targets"]) + self.cross_entropy(nsp, batch["next"])


class Translator(Model):
    """The same as our `transformer.Transformer`: post-norm, one embedding for source, target and logits, sinusoidal positions."""

    places: Tensor

    def __init__(
        self, vocab_size: int, max_length: int, encoder_layers: int, decoder_layers: int, num_heads: int, width: int,
        mlp_width: int, mlp: str = "relu", scale_embedding: bool = True, dropout: float = 0.0,
        attention_dropout: float = 0.0, activation_dropout: float = 0.0, norm_eps: float = 1e-5, smoothing: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        self.heads, self.smoothing = num_heads, smoothing
        self.scale = width**0.5 if scale_embedding else 1.0
        self.tokens = nn.Embedding(vocab_size, width)
        self.register_buffer("places", sinusoids(max_length, width), persistent=False)
        self.drop = nn.Dropout(dropout)
        self.encoder = [f"encoder_{i}" for i in range(encoder_layers)]
        self.decoder = [f"decoder_{i}" for i in range(decoder_layers)]
        rates = (dropout, norm_eps, attention_dropout, activation_dropout)
        for name in (*self.encoder, *self.decoder):
            self.add_module(name, Layer(width, num_heads, mlp_width, mlp, *rates, cross=name in self.decoder))

    def embed(self, tokens: Tensor) -> Tensor:
        return self.drop(self.tokens(tokens) * self.scale + self.places[: tokens.shape[1]])

    def forward(self, source: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
        """source i64[B, S], mask bool[B, S], tokens i64[B, T] -> logits [B, T, V]."""
        mask, memory = mask[:, None, None, :], self.embed(source)
        for name in self.encoder:
            memory = getattr(self, name)(memory, mask)
        x = self.embed(tokens)
        for name in self.decoder:
            x = getattr(self, name)(x, None, memory, mask)
        return F.linear(x, self.tokens.weight)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        logits = self(batch["source"], batch["source_mask"], batch["tokens"])
        return self.cross_entropy(logits, batch["targets"])

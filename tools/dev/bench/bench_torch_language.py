"""Language models in plain PyTorch, for comparison with ours: a GPT and an LSTM. Does not import JAX."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.dev.bench.bench_torch_layers import Attention, FeedForward, Model


class Block(nn.Module):
    """x [B, T, D] -> [B, T, D]."""

    def __init__(self, width: int, heads: int, hidden: int, bias: bool, dropout: float, activation: str):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, bias=bias)
        self.attention = Attention(width, heads, bias, dropout)
        self.feed_forward_norm = nn.LayerNorm(width, bias=bias)
        self.feed_forward = FeedForward(width, hidden, activation, bias)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.attention_norm(x), causal=True))
        return x + self.drop(self.feed_forward(self.feed_forward_norm(x)))


class GPT(Model):
    """tokens i64[B, T] -> logits [B, T, V], as our `gpt.GPT` with nanoGPT's options."""

    def __init__(
        self, vocab_size: int, max_length: int, num_layers: int, num_heads: int, width: int,
        mlp: str = "gelu", mlp_width: int | None = None, bias: bool = False, dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        self.heads = num_heads
        self.tokens = nn.Embedding(vocab_size, width)
        self.position = nn.Embedding(max_length, width)
        self.drop = nn.Dropout(dropout)
        self.layers = [f"h_{i}" for i in range(num_layers)]
        for name in self.layers:
            self.add_module(name, Block(width, num_heads, mlp_width or 4 * width, bias, dropout, mlp))
        self.final_norm = nn.LayerNorm(width, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.drop(self.tokens(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device)))
        for name in self.layers:
            x = getattr(self, name)(x)
        return F.linear(self.final_norm(x), self.tokens.weight)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        return self.cross_entropy(self(batch["tokens"]), batch["targets"])


class LSTM(Model):
    """tokens i64[B, T] -> logits [B, T, V], as our `recurrent_lm.LSTMLM` without dropout, with one `nn.LSTM` for all layers."""

    def __init__(
        self, vocab_size: int, num_layers: int, width: int, embedding_width: int | None = None, tied: bool = True
    ):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, embedding_width or width)
        self.lstm = nn.LSTM(embedding_width or width, width, num_layers, batch_first=True)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias_hh"):  # added to bias_ih, and ours has one of the two
                nn.init.zeros_(parameter.requires_grad_(False))
        self.head = None if tied else nn.Linear(width, vocab_size, bias=False)
        self.head_bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, tokens: Tensor) -> Tensor:
        x, _ = self.lstm(self.tokens(tokens))
        kernel = self.tokens.weight if self.head is None else self.head.weight
        return F.linear(x, kernel, self.head_bias)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        return self.cross_entropy(self(batch["tokens"]), batch["targets"])

"""Layers of the PyTorch models, with the names of ours. Does not import JAX."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORED = -100  # a target that does not count: torch's default `ignore_index`
ACTIVATIONS: dict[str, Any] = {
    "relu": F.relu,
    "gelu": partial(F.gelu, approximate="tanh"),
    "gelu_exact": F.gelu,
}


class Model(nn.Module):
    """A model with its loss: `loss(batch {name: Tensor}) -> scalar []`. `heads`: number of heads in joint kernels."""

    heads = 1
    smoothing = 0.0

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError

    def cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over targets that are not ignored: logits [..., N], targets i64[...]."""
        return F.cross_entropy(
            logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, label_smoothing=self.smoothing
        )


class Attention(nn.Module):
    """Self-attention: x [B, T, D] -> [B, T, D]. `mask` bool broadcasts against [B, H, T, T]; true: attended to."""

    def __init__(self, width: int, heads: int, bias: bool, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.out(attend(q, k, v, self.heads, self.dropout if self.training else 0.0, mask, causal))


class CrossAttention(nn.Module):
    """x [B, T, D] attends to memory [B, S, D] where `mask` bool[B, 1, 1, S] is true -> [B, T, D]."""

    def __init__(self, width: int, heads: int, bias: bool, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q = nn.Linear(width, width, bias=bias)
        self.kv = nn.Linear(width, 2 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        k, v = self.kv(memory).chunk(2, dim=-1)
        return self.out(attend(self.q(x), k, v, self.heads, self.dropout if self.training else 0.0, mask))


def attend(
    q: Tensor, k: Tensor, v: Tensor, heads: int, dropout: float, mask: Tensor | None = None, causal: bool = False
) -> Tensor:
    """torch's fused attention over `heads` heads: [B, T, D], [B, S, D] twice -> [B, T, D]."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal)
    return y.transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
    """x [B, T, D] -> [B, T, D] through `hidden` units."""

    def __init__(self, width: int, hidden: int, activation: str, bias: bool, dropout: float = 0.0):
        super().__init__()
        self.activation, self.drop = ACTIVATIONS[activation], nn.Dropout(dropout)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.drop(self.activation(self.up(x))))


def sinusoids(length: int, width: int) -> Tensor:
    """Positions as vectors f32[T, D]: the sines in the first half, the cosines in the second."""
    angles = torch.arange(length)[:, None] * 10_000.0 ** (-torch.arange(0, width, 2) / width)
    return torch.cat([angles.sin(), angles.cos()], dim=1)

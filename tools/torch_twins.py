"""Plain PyTorch equivalents of our models and their training step, to measure against.

Written as is usual there: `scaled_dot_product_attention`, fused optimisers, pictures with channels
first, autocast for bfloat16. Modules are named as ours are, so that one function carries our
weights over. Imports no JAX.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.host.errors import UserError

LESS = "; leave the comparison out with --against none"


class Block(nn.Module):
    """x [B, T, D] -> [B, T, D]."""

    def __init__(self, width: int, heads: int, hidden: int, bias: bool, dropout: float, gelu: str):
        super().__init__()
        self.heads, self.dropout, self.gelu = heads, dropout, gelu
        linear = partial(nn.Linear, bias=bias)
        self.attention_norm = nn.LayerNorm(width, bias=bias)
        self.attention = nn.ModuleDict({"qkv": linear(width, 3 * width), "out": linear(width, width)})
        self.feed_forward_norm = nn.LayerNorm(width, bias=bias)
        self.feed_forward = nn.ModuleDict({"up": linear(width, hidden), "down": linear(hidden, width)})
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        split = self.attention["qkv"](self.attention_norm(x)).split(D, dim=2)
        q, k, v = (part.view(B, T, self.heads, D // self.heads).transpose(1, 2) for part in split)
        p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        x = x + self.drop(self.attention["out"](y.transpose(1, 2).reshape(B, T, D)))
        y = self.feed_forward["up"](self.feed_forward_norm(x))
        return x + self.drop(self.feed_forward["down"](F.gelu(y, approximate=self.gelu)))


class GPT(nn.Module):
    """tokens [B, T] -> logits [B, T, V]: our `gpt.GPT` with nanoGPT's choices."""

    def __init__(
        self, vocab_size: int, max_length: int, num_layers: int, num_heads: int, width: int,
        mlp: str = "gelu", mlp_width: int | None = None, bias: bool = False, dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        if mlp not in (known := {"gelu": "tanh", "gelu_exact": "none"}):
            raise UserError(f"model.mlp = {mlp!r} has no PyTorch twin{LESS}")
        self.tokens = nn.Embedding(vocab_size, width)
        self.position = nn.Embedding(max_length, width)
        self.drop = nn.Dropout(dropout)
        self.layers = [f"h_{i}" for i in range(num_layers)]
        hidden = mlp_width or 4 * width
        for name in self.layers:
            self.add_module(name, Block(width, num_heads, hidden, bias, dropout, known[mlp]))
        self.final_norm = nn.LayerNorm(width, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        at = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.tokens(tokens) + self.position(at))
        for name in self.layers:
            x = getattr(self, name)(x)
        return F.linear(self.final_norm(x), self.tokens.weight)


class ConvNet(nn.Module):
    """images [B, C, Y, X] -> logits [B, N]: our `convnet.ConvNet`."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int,
        channels: tuple[int, int] = (32, 64),
        kernel: int = 3,
        hidden: int = 256,
        pool: str = "avg",
    ):
        super().__init__()
        self.pool: Any = {"avg": F.avg_pool2d, "max": F.max_pool2d}[pool]
        self.conv1 = nn.Conv2d(shape[2], channels[0], kernel, padding="same")
        self.conv2 = nn.Conv2d(channels[0], channels[1], kernel, padding="same")
        self.grid = (shape[0] // 4, shape[1] // 4, channels[1])
        self.hidden = nn.Linear(int(np.prod(self.grid)), hidden)
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)), 2)
        x = self.pool(F.relu(self.conv2(x)), 2)
        return self.head(F.relu(self.hidden(x.flatten(1))))


class ResidualBlock(nn.Module):
    """x [B, I, Y, X] -> [B, O, Y/stride, X/stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int, project: bool):
        super().__init__()
        self.stride, self.grow, self.project = (
            stride,
            outputs - inputs,
            project and outputs != inputs,
        )
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.out = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.out_norm = nn.BatchNorm2d(outputs)
        if self.project:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.out_norm(self.out(F.relu(self.norm1(self.conv1(x)))))
        if self.project:
            x = self.shortcut_norm(self.shortcut(x))
        elif self.grow:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.grow))
        return F.relu(x + y)


class ResNet(nn.Module):
    """images [B, C, Y, X] -> logits [B, N]: our `resnet.ResNet` of form "cifar"."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int,
        depth: int = 50,
        shortcut: str = "projection",
        width: int = 16,
    ):
        super().__init__()
        self.stem = nn.Conv2d(shape[2], width, 3, 1, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        self.blocks, inputs = [], width
        for i in range(3):
            for j in range((depth - 2) // 6):
                outputs, stride = width * 2**i, 2 if i and not j else 1
                block = ResidualBlock(inputs, outputs, stride, shortcut == "projection")
                self.blocks.append(name := f"stage{i}_block{j}")
                self.add_module(name, block)
                inputs = outputs
        self.head = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        for name in self.blocks:
            x = getattr(self, name)(x)
        return self.head(x.mean((2, 3)))


# What we call a weight; a kernel, elsewhere.
LEAVES: Any = {nn.Embedding: "embedding", nn.LayerNorm: "scale", nn.BatchNorm2d: "scale"}

# What ours can do and the twins cannot: key -> the values that they stand for.
MODEL = {"kv_heads": (None,), "positions": ("learned",), "norm": ("layernorm",), "tied": (True,)}
RULES = ("adam", "adamw", "sgd", "momentum", "nesterov")
OPTIM = {"freeze": ("",), "accumulate": (1,), "ema": (0.0,), "name": RULES}
CHANGES = ("crop", "flip", "erase", "mixup", "smoothing", "mean")
AUGMENT = {"std": (1.0,), **dict.fromkeys(CHANGES, (0.0,))}
# Keys that say nothing of a step's result: its memory, or the weights, which are copied anyway.
FREE = ("name", "form", "zero_init", "scan", "remat")


def make(config: Mapping, batch: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]) -> nn.Module:
    """A resolved config, a batch, our parameters {path: array} -> the twin with these."""
    _demand("optim", config["optim"], OPTIM)
    given = {k: v for k, v in config["model"].items() if v is not None}
    if "tokens" in batch:
        _demand("model", given, MODEL)
        vocab, length = weights["tokens/embedding"].shape[0], weights["position/embedding"].shape[0]
        cls, fixed = GPT, {"vocab_size": vocab, "max_length": length}
    else:
        _demand("augment", config["augment"], AUGMENT)
        name = given.get("name")
        if (name, given.get("form")) not in (("convnet", None), ("resnet", "cifar")):
            raise UserError(f"model.name = {name!r} (form {given.get('form')!r}) has no PyTorch twin{LESS}")
        cls = {"convnet": ConvNet, "resnet": ResNet}[name]
        fixed = {"shape": batch["image"].shape[1:], "num_classes": len(weights["head/bias"])}
    known = inspect.signature(cls).parameters
    given = {k: v for k, v in given.items() if k not in (*FREE, *MODEL)}
    if unknown := [k for k in given if k not in known]:
        raise UserError(f"model.{unknown[0]} = {given[unknown[0]]!r} has no PyTorch twin{LESS}")
    model = cls(**given, **fixed)
    copy_weights(model, weights)
    return model


def _demand(group: str, values: Mapping, allowed: Mapping[str, tuple]) -> None:
    for key, choices in allowed.items():
        if key in values and values[key] not in choices:
            raise UserError(f"{group}.{key} = {values[key]!r} has no PyTorch twin{LESS}")


def parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """(our path, parameter): `h_0/attention/qkv/kernel`."""
    for name, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            ours = LEAVES.get(type(module), "kernel") if leaf == "weight" else leaf
            yield f"{name.replace('.', '/')}/{ours}", parameter


def copy_weights(model: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Our parameters into the twin; UserError where names or shapes differ."""
    twin = dict(parameters(model))
    if odd := sorted(twin.keys() ^ weights.keys()):
        raise UserError(f"the PyTorch twin and our model differ in the parameter {odd[0]}{LESS}")
    for path, parameter in twin.items():
        array = torch.tensor(_layout(model, path, weights[path]))
        if array.shape != parameter.shape:
            raise UserError(f"the PyTorch twin's {path} is {[*parameter.shape]}, ours {[*array.shape]}{LESS}")
        with torch.no_grad():
            parameter.copy_(array)


def _layout(model: Any, path: str, ours: np.ndarray) -> np.ndarray:
    if "/qkv/" in path:  # ours by head, then q, k, v; theirs q, k, v, then by head
        lead = ours.shape[:-1]
        split = ours.reshape(*lead, model.h_0.heads, 3, -1)
        ours = split.swapaxes(-3, -2).reshape(*lead, -1)
    if path == "hidden/kernel":  # ours reads [Y, X, C], theirs [C, Y, X]
        ours = ours.reshape(*model.grid, -1).transpose(2, 0, 1, 3).reshape(ours.shape)
    if not path.endswith("kernel"):
        return ours
    return ours.transpose(3, 2, 0, 1) if ours.ndim == 4 else ours.T


def optimizer(model: nn.Module, optim: Mapping) -> torch.optim.Optimizer:
    """The `optim` group of a config -> the same rule, fused."""
    groups: dict[bool, list] = {True: [], False: []}
    for path, parameter in parameters(model):
        groups[bool(re.search(optim["decay"], path))].append(parameter)
    wd = optim["weight_decay"]
    split = [{"params": p, "weight_decay": wd if decays else 0.0} for decays, p in groups.items() if p]
    given = {k: v for k, v in optim.items() if v is not None}
    if optim["name"] in ("adam", "adamw"):
        rule = torch.optim.AdamW if optim["name"] == "adamw" else torch.optim.Adam
        betas = (given.get("b1", 0.9), given.get("b2", 0.999))
        return rule(split, lr=0.0, betas=betas, eps=given.get("eps", 1e-8), fused=True)
    momentum = 0.0 if optim["name"] == "sgd" else given.get("momentum", 0.9)
    nesterov = optim["name"] == "nesterov"
    return torch.optim.SGD(split, lr=0.0, momentum=momentum, nesterov=nesterov, fused=True)


class TrainStep:
    """`step(batch) -> loss []`: the training step of a resolved config, in plain PyTorch.

    `rates` f32[steps] are the learning rates; `compiled` passes the model through torch.compile,
    in its default mode.
    """

    def __init__(
        self,
        model: nn.Module,
        config: Mapping,
        rates: np.ndarray,
        device: str = "cpu",
        compiled: bool = False,
    ):
        self.model = model.to(device).train()
        self.optimizer = optimizer(self.model, config["optim"])
        self.clip_norm, self.rates, self.done = config["optim"]["clip_norm"], rates, 0
        self.forward: Callable = torch.compile(self.model) if compiled else self.model
        low = config["dtype"] == "bfloat16"
        cast = partial(torch.autocast, device, torch.bfloat16)
        self.precision: Callable = cast if low else nullcontext

    def __call__(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, targets = batch
        for group in self.optimizer.param_groups:
            group["lr"] = float(self.rates[min(self.done, len(self.rates) - 1)])
        with self.precision():
            logits = self.forward(inputs)
            loss = F.cross_entropy(logits.flatten(0, -2), targets.flatten())
        loss.backward()
        if self.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.done += 1
        return loss.detach()


def tensors(batch: Mapping[str, np.ndarray]) -> tuple[Tensor, Tensor]:
    """A batch of ours -> inputs (tokens, or pictures with channels first) and targets."""
    if "tokens" in batch:
        pair: Any = batch["tokens"], batch["targets"]
    else:
        pair = batch["image"].transpose(0, 3, 1, 2), batch["label"]
    inputs, targets = (torch.from_numpy(np.ascontiguousarray(x)) for x in pair)
    return inputs, targets.long()

"""A resolved config of ours -> the PyTorch model that computes the same, with our weights. Does not import JAX.

The models are written as is usual in PyTorch: `scaled_dot_product_attention`, `nn.LSTM` for all layers, images with channels
first, the loss in the model. Modules have the names of ours, so that one function copies the weights.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from research.core import config as config_keys
from research.util.errors import UserError
from research.util.nested import plain
from tools.dev.bench.bench_torch_images import ConvNet, ResNet
from tools.dev.bench.bench_torch_language import GPT, LSTM
from tools.dev.bench.bench_torch_layers import ACTIVATIONS, Model
from tools.dev.bench.bench_torch_transformers import BERT, Translator

LESS = "; leave the comparison out with --against none"

Weights = Mapping[str, np.ndarray]
Allowed = Mapping[str, tuple]  # key of a config's group -> the values that PyTorch's model stands for

CHANGES = ("crop", "flip", "erase", "mixup", "smoothing", "mean")
AUGMENT: Allowed = {"std": (1.0,), **dict.fromkeys(CHANGES, (0.0,))}
TEXT: Allowed = {"packing": (None, False), "carry": (None, False)}
MLP = tuple(ACTIVATIONS)
# Keys of a model that say nothing of a step's result: its memory, or the weights, which are copied anyway.
FREE = ("name", "zero_init", "scan", "remat", "init_range", "forget_bias")


def _gpt(weights: Weights, batch: Mapping) -> dict[str, Any]:
    return {"vocab_size": len(weights["tokens/embedding"]), "max_length": len(weights["position/embedding"])}


def _lstm(weights: Weights, batch: Mapping) -> dict[str, Any]:
    return {"vocab_size": len(weights["tokens/embedding"])}


def _bert(weights: Weights, batch: Mapping) -> dict[str, Any]:
    table, places = weights["encoder/tokens/embedding"], weights["encoder/position/embedding"]
    return {"vocab_size": len(table), "max_length": len(places)}


def _translator(weights: Weights, batch: Mapping) -> dict[str, Any]:
    return {"vocab_size": len(weights["tokens/embedding"]), "max_length": batch["tokens"].shape[1]}


def _images(weights: Weights, batch: Mapping) -> dict[str, Any]:
    return {"shape": batch["image"].shape[1:], "num_classes": len(weights["head/bias"])}


# (family, model.name) -> the PyTorch model; its sizes, from the weights and a batch; keys of `model` that it has besides the
# arguments of its class, with the values that it stands for. Any other key must have its default.
MODELS: dict[tuple[str, str | None], tuple[type[Model], Callable, Allowed]] = {
    ("language_model", "gpt"): (GPT, _gpt, {"mlp": MLP}),
    ("language_model", "lstm"): (LSTM, _lstm, {}),
    ("bert", None): (BERT, _bert, {"mlp": MLP}),
    ("translation", None): (Translator, _translator, {"mlp": MLP}),
    ("image_classification", "convnet"): (ConvNet, _images, {}),
    ("image_classification", "resnet"): (ResNet, _images, {}),
}
RULES = ("adam", "adamw", "sgd", "momentum", "nesterov")
OPTIM: Allowed = {"freeze": ("",), "accumulate": (1,), "ema": (0.0,), "name": RULES}


def make(config: Mapping, batch: Mapping[str, np.ndarray], weights: Weights) -> Model:
    """A resolved config, a batch and our parameters {path: array} -> the PyTorch model with these parameters.

    Raises UserError if there is no such model, or a key has a value that it does not support.
    """
    group = config["model"]
    family, name = config["name"].split("/")[0], group.get("name")
    if (family, name) not in MODELS:
        raise UserError(f"model.name = {name!r} of {family} has no PyTorch twin{LESS}")
    cls, sizes, allowed = MODELS[family, name]
    defaults = plain(config_keys.defaults(family, model={"name": name} if name else {}))["model"]
    known = inspect.signature(cls).parameters
    fixed = {key: (value,) for key, value in defaults.items() if key not in known and key not in FREE}
    _demand("optim", config["optim"], OPTIM)
    _demand("model", group, {**fixed, **allowed})
    _demand("augment", config.get("augment", {}), AUGMENT)
    _demand("data", config["data"], TEXT)
    given = {key: value for key, value in group.items() if key in known}
    if "smoothing" in known:
        given["smoothing"] = config["loss"]["smoothing"]
    model = cls(**given, **sizes(weights, batch))
    copy_weights(model, weights)
    return model


def _demand(group: str, values: Mapping, allowed: Allowed) -> None:
    for key, choices in allowed.items():
        value = values.get(key, choices[0])
        each = value if isinstance(value, list | tuple) else [value]  # a number a channel
        if any(one not in choices for one in each):
            raise UserError(f"{group}.{key} = {value!r} has no PyTorch twin{LESS}")


# ---- Weights

# What we call a weight; a kernel, elsewhere.
LEAVES: Any = {nn.Embedding: "embedding", nn.LayerNorm: "scale", nn.BatchNorm2d: "scale"}
LSTM_LEAVES = {"weight_ih": "input/kernel", "bias_ih": "input/bias", "weight_hh": "recurrent_kernel"}


def parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yields (our path, parameter) of each trained parameter, such as `h_0/attention/qkv/kernel`."""
    for name, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, nn.LSTM):
                kind, _, layer = leaf.rpartition("_l")
                yield f"layer_{layer}/{LSTM_LEAVES[kind]}", parameter
                continue
            ours = LEAVES.get(type(module), "kernel") if leaf == "weight" else leaf
            yield f"{name.replace('.', '/')}/{ours}".lstrip("/"), parameter


def count(model: nn.Module) -> int:
    """The number of trained parameters."""
    return sum(parameter.numel() for _, parameter in parameters(model))


def copy_weights(model: Model, weights: Weights) -> None:
    """Copies our parameters to the PyTorch model. Raises UserError if names or shapes differ."""
    theirs = dict(parameters(model))
    if odd := sorted(theirs.keys() ^ weights.keys()):
        raise UserError(f"the PyTorch twin and our model differ in the parameter {odd[0]}{LESS}")
    for path, parameter in theirs.items():
        array = torch.tensor(_layout(model, path, weights[path]))
        if array.shape != parameter.shape:
            raise UserError(f"the PyTorch twin's {path} is {[*parameter.shape]}, ours {[*array.shape]}{LESS}")
        with torch.no_grad():
            parameter.copy_(array)


def _layout(model: Any, path: str, ours: np.ndarray) -> np.ndarray:
    joint = {"qkv": 3, "kv": 2}.get(path.split("/")[-2] if "/" in path else "")
    if joint:  # ours by head, then q, k, v; theirs q, k, v, then by head
        lead = ours.shape[:-1]
        split = ours.reshape(*lead, model.heads, joint, -1)
        ours = split.swapaxes(-3, -2).reshape(*lead, -1)
    if path == "hidden/kernel":  # ours reads [Y, X, C], theirs [C, Y, X]
        ours = ours.reshape(*model.grid, -1).transpose(2, 0, 1, 3).reshape(ours.shape)
    if not path.endswith("kernel"):
        return ours
    return ours.transpose(3, 2, 0, 1) if ours.ndim == 4 else ours.T

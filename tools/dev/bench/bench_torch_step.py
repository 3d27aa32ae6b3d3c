"""The training step of a resolved config in plain PyTorch: fused optimisers, autocast for bfloat16. Does not import JAX."""

import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tools.dev.bench.bench_torch_layers import IGNORED, Model
from tools.dev.bench.bench_torch_models import parameters


def optimizer(model: nn.Module, optim: Mapping) -> torch.optim.Optimizer:
    """The `optim` group of a config -> the same optimiser, fused."""
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
    """`step(batch) -> loss []`: the training step of a resolved config.

    `rates` f32[steps] are the learning rates; `compiled` passes the model with its loss through torch.compile, in its
    default mode. On a GPU a model of images has channels last.
    """

    def __init__(
        self,
        model: Model,
        config: Mapping,
        rates: np.ndarray,
        device: str = "cpu",
        compiled: bool = False,
    ):
        layout: Any = {"memory_format": torch.channels_last} if device == "cuda" else {}  # of tensors with four axes
        self.model: Any = model.to(device, **layout).train()
        self.optimizer = optimizer(self.model, config["optim"])
        self.trained = [parameter for _, parameter in parameters(self.model)]
        self.clip_norm, self.rates, self.done = config["optim"]["clip_norm"], rates, 0
        self.loss: Callable = torch.compile(self.model.loss) if compiled else self.model.loss
        low = config["dtype"] == "bfloat16"
        cast = partial(torch.autocast, device, torch.bfloat16)
        self.precision: Callable = cast if low else nullcontext

    def __call__(self, batch: dict[str, Tensor]) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = float(self.rates[min(self.done, len(self.rates) - 1)])
        with self.precision():
            loss = self.loss(batch)
        loss.backward()
        if self.clip_norm:
            nn.utils.clip_grad_norm_(self.trained, self.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.done += 1
        return loss.detach()

    def metric(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss as in our metrics, without label smoothing; no update."""
        smoothing, self.model.smoothing = self.model.smoothing, 0.0
        with torch.no_grad(), self.precision():
            loss = self.model.loss(batch)
        self.model.smoothing = smoothing
        return loss


UNREAD = ("mask", "target_mask", "targets_mask", "tokens_mask")  # in the targets, or told by them


def tensors(batch: Mapping[str, np.ndarray], device: str) -> dict[str, Tensor]:
    """A batch of ours -> tensors on the host: integers i64, masks bool, images with channels first."""
    given: dict[str, Any] = dict(batch)
    counted = given.get("targets_mask", given.get("target_mask"))
    if counted is not None:
        if "mask" in given:
            counted = counted * given["mask"][:, None]
        given["targets"] = np.where(counted > 0, given["targets"], IGNORED)
    found = {}
    for name, array in given.items():
        if name in UNREAD:
            continue
        if name == "image":
            array = array.transpose(0, 3, 1, 2)
        x = torch.from_numpy(np.ascontiguousarray(array))
        if name.endswith("mask"):
            x = x > 0
        elif not x.is_floating_point():
            x = x.long()
        if device == "cuda":
            x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
            x = x.pin_memory()
        found[name] = x
    return found

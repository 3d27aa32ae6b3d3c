"""PyTorch's column of `almanac benchmark`: the same model, weights and batches. Does not import JAX."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from research.cluster import cpu
from research.util.errors import UserError
from tools.dev.bench import bench_torch_models, bench_torch_step
from tools.dev.bench.bench_steps import BATCHES, CHECKED, peak_rss, timed, without_dropout
from tools.dev.bench.bench_workers import OUR_ALLOCATOR


class Torch:
    """A PyTorch training step on batches of ours that are in memory, so that it never waits for data."""

    def __init__(self, kind: str, folder: Path):
        self._compiled, self._folder = kind.startswith("compile"), folder
        case = json.loads((folder / "case.json").read_text())
        self._config = json.loads((folder / "config.json").read_text())
        self._device = device(self._config["platform"])
        if kind.endswith(OUR_ALLOCATOR):
            cpu.keep_freed_memory()
        torch.set_num_threads(case["threads"])

    def _make(self, compiled: bool, **changes: Any) -> None:
        config = self._config | changes
        weights = dict(np.load(self._folder / "weights.npz"))
        arrays = np.load(self._folder / "batches.npz")
        batches: list[dict] = [{} for _ in range(BATCHES)]
        for name in arrays.files:
            number, key = name.split("/")
            batches[int(number)][key] = arrays[name]
        model = bench_torch_models.make(config, batches[0], weights)
        rates = np.load(self._folder / "rates.npy")
        self._step = bench_torch_step.TrainStep(model, config, rates, self._device, compiled)
        self._held = [bench_torch_step.tensors(batch, self._device) for batch in batches]
        self._batches = self._endless()

    def _endless(self) -> Iterator:
        while True:
            for batch in self._held:
                yield {name: x.to(self._device, non_blocking=True) for name, x in batch.items()}

    def check(self) -> dict:
        """The first losses in float32 without dropout."""
        torch.backends.cudnn.allow_tf32 = False
        plain = self._config["model"] | without_dropout(self._config["model"])
        self._make(False, dtype="float32", model=plain)
        losses = []
        for _ in range(CHECKED):
            batch = next(self._batches)
            losses.append(float(self._step.metric(batch)))
            self._step(batch)
        return {"losses": losses, "parameters": bench_torch_models.count(self._step.model)}

    def start(self) -> dict:
        """Builds the model and runs the first step, without reading data. TF32 is on, as in XLA."""
        use_tf32()
        self._make(self._compiled)
        self._wait(self._dispatch())
        return {}

    def _dispatch(self) -> Any:
        loss = self._step(next(self._batches))
        if self._device != "cuda":
            return loss
        event = torch.cuda.Event()
        event.record()
        return event

    def _wait(self, flying: Any) -> None:
        if self._device == "cuda":
            flying.synchronize()

    def steps(self, count: int) -> dict:
        return {"ms": timed(self._dispatch, self._wait, count)}

    def memory(self) -> dict:
        held = torch.cuda.max_memory_allocated() if self._device == "cuda" else None
        return {"rss": peak_rss(), "device_memory": held}


def device(platform: str) -> str:
    """JAX's platform -> PyTorch's device. Raises UserError if JAX has a GPU and PyTorch does not."""
    if platform == "gpu" and not torch.cuda.is_available():
        raise UserError("JAX has a GPU here and this PyTorch has none; use --against none")
    return "cuda" if platform == "gpu" else "cpu"


def use_tf32() -> None:
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True

"""One framework in one process: what `almanac benchmark` starts and asks for steps.

`python -m tools.bench_steps ours|eager|compile FOLDER` answers commands, a line of JSON each:
check, start, steps N, memory. FOLDER holds case.json; `check` of "ours" adds the resolved config,
our first weights and some batches, which the PyTorch twins read.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from research.host.errors import UserError

CHECKED = 3  # steps that both must agree on
BATCHES = 8  # real batches that the twins go through in turn
RATES = 100_000  # learning rates told to the twins


def timed(dispatch: Callable[[], Any], wait: Callable[[Any], Any], steps: int) -> list[float]:
    """Milliseconds of `steps` steps, after one that is not counted.

    One step stays in flight, as in a training loop: a time runs from a step's end to the next's.
    """
    flying, times = dispatch(), []
    start = time.perf_counter()
    for _ in range(steps):
        following = dispatch()
        wait(flying)
        flying, now = following, time.perf_counter()
        times.append(1e3 * (now - start))
        start = now
    wait(flying)
    return times


class Ours:
    """The experiment's own step over its own stream, on one device."""

    def __init__(self, kind: str, folder: Path):
        import jax

        from research.host import device

        device.use_compilation_cache()
        self.jax, self.folder, self.waited = jax, folder, 0.0
        self.case = json.loads((folder / "case.json").read_text())

    def _build(self, *changes: str) -> tuple:
        """-> experiment, mesh of one device."""
        from research.core import config, mesh
        from tools import runs

        here = self.case["cpu"] if self.jax.default_backend() == "cpu" else []
        cfg = config.load(self.case["config"], [*self.case["overrides"], *here, *self.case["changes"], *changes])
        e = runs.build(cfg.name, cfg)
        return e, mesh.make_mesh(dict.fromkeys(e.cfg.mesh, 1), self.jax.devices()[:1])

    def _create(self, e: Any, devices: Any) -> Any:
        from research.core import state

        return state.create(e.init, e.tx, e.cfg.seed, devices, (), bool(e.ema))

    def check(self) -> dict:
        """The first losses in float32 without dropout. Leaves what the twins need in the folder."""
        from research.core import mesh, metrics, state
        from research.host import flops

        jax = self.jax
        e, devices = self._build()
        config, spec = e.cfg.to_dict(), e.train.spec
        shapes, _ = state.abstract(e.init, e.tx, devices, (), bool(e.ema))
        with jax.set_mesh(devices):
            count = flops.count(e.train_step.trace(shapes, spec))
        dropout = ["model.dropout=0.0"] if config["model"].get("dropout") else []
        e, devices = self._build("dtype=float32", *dropout)
        now = self._create(e, devices)
        batches = [e.train.batch(i) for i in range(BATCHES)]
        self._leave(config, now.params, batches, e.tx.schedule)
        losses = []
        with jax.set_mesh(devices), jax.default_matmul_precision("highest"):
            for batch in batches[:CHECKED]:
                batch = mesh.to_device(batch, devices, e.train.batch_size)
                now, values = e.train_step(now, batch)
                losses.append(float(metrics.mean(values["loss"])))
        device, unit = jax.devices()[0], "tokens" if "tokens" in spec else "images"
        rows = spec["tokens"].shape if unit == "tokens" else spec["image"].shape
        return {
            "losses": losses,
            "parameters": state.count(shapes.params),
            "flops": count,
            "peak": flops.peak(device),
            "platform": device.platform,
            "device": device.device_kind,
            "batch": list(rows),
            "unit": unit,
            "units": int(np.prod(rows)) if unit == "tokens" else rows[0],
            "dtype": config["dtype"],
        }

    def _leave(self, config: dict, params: Any, batches: list[dict], schedule: Callable) -> None:
        from research.core import mesh

        paths = self.jax.tree_util.tree_leaves_with_path(params)
        weights: dict[str, Any] = {mesh.path_name(path): np.asarray(leaf) for path, leaf in paths}
        rates = self.jax.vmap(schedule)(np.arange(RATES))
        named = {f"{i}/{k}": v for i, batch in enumerate(batches) for k, v in batch.items()}
        np.savez(self.folder / "weights.npz", **weights)
        np.savez(self.folder / "batches.npz", **named)
        np.save(self.folder / "rates.npy", np.broadcast_to(rates, RATES))
        platform = self.jax.default_backend()
        (self.folder / "config.json").write_text(json.dumps(config | {"platform": platform}))

    def start(self) -> dict:
        """Everything up to the end of the first step."""
        self.e, devices = self._build()
        self.jax.set_mesh(devices)
        self.state = self._create(self.e, devices)
        self.batches = self.e.train.on_device(devices, 0, 1 << 40)
        self._wait(self._dispatch())
        return {}

    def _dispatch(self) -> dict:
        asked = time.perf_counter()
        batch = next(self.batches)
        self.waited += time.perf_counter() - asked
        self.state, metrics = self.e.train_step(self.state, batch)
        return metrics

    def _wait(self, metrics: dict) -> None:
        self.jax.block_until_ready(metrics)

    def steps(self, count: int) -> dict:
        """Times of `count` steps, and the time that the loop waited for their batches."""
        before = self.waited
        times = timed(self._dispatch, self._wait, count)
        return {"ms": times, "wait_ms": 1e3 * (self.waited - before) / (count + 1)}

    def memory(self) -> dict:
        stats = self.jax.devices()[0].memory_stats() or {}
        return {"rss": peak_rss(), "device_memory": stats.get("peak_bytes_in_use")}


class Twin:
    """The PyTorch twin over the same batches, already in memory: it never waits for data."""

    def __init__(self, kind: str, folder: Path):
        import torch

        from tools import torch_twins

        self.torch, self.twins, self.kind, self.folder = torch, torch_twins, kind, folder
        case = json.loads((folder / "case.json").read_text())
        self.config = json.loads((folder / "config.json").read_text())
        self.device = "cuda" if self.config["platform"] == "gpu" else "cpu"
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("JAX has a GPU here and this PyTorch has none; use --against none")
        torch.set_num_threads(case["threads"])

    def _make(self, compiled: bool, **changes: Any) -> None:
        config = self.config | changes
        weights = dict(np.load(self.folder / "weights.npz"))
        arrays = np.load(self.folder / "batches.npz")
        batches: list[dict] = [{} for _ in range(BATCHES)]
        for name in arrays.files:
            number, key = name.split("/")
            batches[int(number)][key] = arrays[name]
        model = self.twins.make(config, batches[0], weights)
        rates = np.load(self.folder / "rates.npy")
        self.step = self.twins.TrainStep(model, config, rates, self.device, compiled)
        self.held: list[tuple] = [self.twins.tensors(batch) for batch in batches]
        if self.device == "cuda":
            self.held = [tuple(x.pin_memory() for x in pair) for pair in self.held]
        self.batches = self._endless()

    def _endless(self) -> Iterator:
        while True:
            for pair in self.held:
                yield tuple(x.to(self.device, non_blocking=True) for x in pair)

    def check(self) -> dict:
        self.torch.backends.cudnn.allow_tf32 = False
        plain = {k: 0.0 if k == "dropout" and v else v for k, v in self.config["model"].items()}
        self._make(False, dtype="float32", model=plain)
        losses = [float(self.step(next(self.batches))) for _ in range(CHECKED)]
        return {
            "losses": losses,
            "parameters": sum(p.numel() for p in self.step.model.parameters()),
        }

    def start(self) -> dict:
        """As ours, but for reading the data. TF32 is on, as it is in XLA."""
        self.torch.set_float32_matmul_precision("high")
        self.torch.backends.cudnn.allow_tf32 = True
        self.torch.backends.cudnn.benchmark = True
        self._make(self.kind == "compile")
        self._wait(self._dispatch())
        return {}

    def _dispatch(self) -> Any:
        loss = self.step(next(self.batches))
        if self.device != "cuda":
            return loss
        event = self.torch.cuda.Event()
        event.record()
        return event

    def _wait(self, flying: Any) -> None:
        if self.device == "cuda":
            flying.synchronize()

    def steps(self, count: int) -> dict:
        return {"ms": timed(self._dispatch, self._wait, count)}

    def memory(self) -> dict:
        held = self.torch.cuda.max_memory_allocated() if self.device == "cuda" else None
        return {"rss": peak_rss(), "device_memory": held}


def peak_rss() -> int:
    """Bytes. `ru_maxrss` would count the process that started this one."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not pass for an answer
    worker: Any = None
    for line in sys.stdin:
        verb, *words = line.split()
        try:
            worker = worker or (Ours if kind == "ours" else Twin)(kind, folder)
            answer = getattr(worker, verb)(*map(int, words))
        except UserError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

"""Our side of `almanac benchmark`: the experiment's own training step, its input and its checkpoints."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.cluster import cpu, device
from research.core import config as config_lib
from research.core import flops, mesh, metrics, state
from research.run import reopen
from research.run.checkpoint import Checkpoints
from tools.dev.bench.bench_steps import BATCHES, CHECKED, WARM, elapsed, peak_rss, timed, without_dropout

RATES = 100_000  # learning rates computed for the PyTorch processes
SAVES = 3  # checkpoints measured, after one that is not


class Ours:
    """The experiment's own training step on its own batches, on one device, set up as by `almanac train`."""

    def __init__(self, kind: str, folder: Path):
        cpu.tune()
        device.choose(None)
        device.use_compilation_cache()
        self._folder, self._waited = folder, 0.0
        self._case = json.loads((folder / "case.json").read_text())

    def _build(self, *changes: str) -> tuple:
        """-> experiment, mesh of one device."""
        for_cpu = self._case["cpu"] if jax.default_backend() == "cpu" else []
        overrides = [*self._case["overrides"], *for_cpu, *self._case["changes"], *changes]
        cfg = config_lib.load(self._case["config"], overrides)
        e = reopen.build(cfg.name, cfg)
        return e, mesh.make_mesh(dict.fromkeys(e.cfg.mesh, 1), jax.devices()[:1])

    def _create(self, e: Any, devices: Any) -> Any:
        return state.create(e.init_fn, e.tx, e.cfg.seed, devices, (), bool(e.ema))

    def check(self) -> dict:
        """The first losses in float32 without dropout. Writes the files that the PyTorch processes read to the folder."""
        e, devices = self._build()
        config, spec = e.cfg.to_dict(), e.train.spec
        shapes, _ = state.abstract(e.init_fn, e.tx, devices, (), bool(e.ema))
        with jax.set_mesh(devices):
            count = flops.count(e.train_step.trace(shapes, spec))
        plain = [f"model.{key}={value}" for key, value in without_dropout(config["model"]).items()]
        e, devices = self._build("dtype=float32", *plain)
        train_state = self._create(e, devices)
        batches = [e.train.batch(i) for i in range(BATCHES)]
        self._write_files(config, train_state.params, batches, e.tx.schedule)
        losses = []
        with jax.set_mesh(devices), jax.default_matmul_precision("highest"):
            for i, batch in enumerate(batches[:CHECKED]):
                train_state, values = e.train_step(train_state, mesh.to_device(batch, devices, e.train.size(i)))
                losses.append(float(metrics.mean(values["loss"])))
        unit = "tokens" if "tokens" in spec else "images"
        shape = spec["tokens" if unit == "tokens" else "image"].shape
        return {
            "losses": losses,
            "parameters": state.count(shapes.params),
            "flops": count,
            "batch": list(shape),
            "unit": unit,
            "units": int(np.prod(shape)) if unit == "tokens" else shape[0],
            "dtype": config["dtype"],
            **about_device(),
        }

    def _write_files(self, config: dict, params: Any, batches: list[dict], schedule: Callable) -> None:
        """Writes config.json, weights.npz, batches.npz and rates.npy."""
        paths = jax.tree_util.tree_leaves_with_path(params)
        weights: dict[str, Any] = {mesh.path_name(path): np.asarray(leaf) for path, leaf in paths}
        rates = jax.vmap(schedule)(np.arange(RATES))
        named = {f"{i}/{k}": v for i, batch in enumerate(batches) for k, v in batch.items()}
        np.savez(self._folder / "weights.npz", **weights)
        np.savez(self._folder / "batches.npz", **named)
        np.save(self._folder / "rates.npy", np.broadcast_to(rates, RATES))
        platform = jax.default_backend()
        (self._folder / "config.json").write_text(json.dumps(config | {"platform": platform}))

    def start(self) -> dict:
        """Builds the experiment and runs the first step."""
        self._e, devices = self._build()
        jax.set_mesh(devices)
        self._state = self._create(self._e, devices)
        self._batches = self._e.train.on_device(devices, 0, 1 << 40)
        self._wait(self._dispatch())
        return {}

    def _dispatch(self) -> dict:
        start = time.perf_counter()
        batch = next(self._batches)
        self._waited += time.perf_counter() - start
        self._state, values = self._e.train_step(self._state, batch)
        return values

    def _wait(self, values: dict) -> None:
        jax.block_until_ready(values)

    def steps(self, count: int) -> dict:
        """The times of `count` steps, and the mean time for which a step waited for its batch, in ms."""
        before = self._waited
        times = timed(self._dispatch, self._wait, count)
        return {"ms": times, "wait_ms": 1e3 * (self._waited - before) / (count + WARM + 1)}

    def memory(self) -> dict:
        """Peak memory of the process and of the device, in bytes."""
        stats = jax.devices()[0].memory_stats() or {}
        return {"rss": peak_rss(), "device_memory": stats.get("peak_bytes_in_use")}

    def save(self, steps: int) -> dict:
        """The cost of a checkpoint, saved as by `Run`: the milliseconds of the call, for which the loop waits, and the additional
        milliseconds of the `steps` steps after it, while threads write the files, compared with the steps before it.
        """
        checkpoints, calls, after = Checkpoints(self._folder / "checkpoints", 3), [], []
        for number in range(SAVES + 1):
            usual = elapsed(self._dispatch, self._wait, steps)
            start = time.perf_counter()
            checkpoints.save(number, self._state, {})
            calls.append(1e3 * (time.perf_counter() - start))
            after.append(elapsed(self._dispatch, self._wait, steps) - usual)
            checkpoints.wait()
        checkpoints.close()
        size = sum(
            leaf.nbytes for leaf in jax.tree.leaves((self._state.params, self._state.opt, self._state.model_state))
        )
        return {"call_ms": calls[1:], "after_ms": after[1:], "steps": steps, "bytes": size}


def about_device() -> dict[str, Any]:
    """JAX's device: its kind, its peak FLOP/s in the data sheet, and whether the allocator keeps freed memory."""
    first = jax.devices()[0]
    return {
        "peak": flops.peak(first),
        "platform": first.platform,
        "device": first.device_kind,
        "allocator": first.platform == "cpu" and cpu.wanted(None, os.environ) and cpu.keep_freed_memory(),
    }

"""The largest FLOP/s of a matrix product on this machine, by JAX and by PyTorch, with which training steps are compared.

`python -m tools.dev.bench.bench_peak jax|torch THREADS` measures one framework and prints a line of JSON.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from research.util.errors import UserError
from tools.dev.bench.bench_workers import ROOT, TITLES, keeps_memory, tunables

DTYPES = ("float32", "bfloat16")
SIZES = {"cpu": 2048, "gpu": 8192, "tpu": 8192}  # of square matrices
SECONDS = 2.0  # of measurement, for each dtype


def measure(threads: int, torch: bool) -> dict[str, Any]:
    """{dtype: {"jax": FLOP/s, "torch": FLOP/s}} of the fastest single product, measured one framework after the other.

    Raises UserError if a framework fails.
    """
    by_framework = {name: _measure_framework(name, threads) for name in ("jax", *(["torch"] if torch else []))}
    return {dtype: {name: rates[dtype] for name, rates in by_framework.items()} for dtype in DTYPES}


def best(peaks: dict[str, dict[str, float]], dtype: str) -> float:
    """The larger of the frameworks' FLOP/s.

    >>> best({"float32": {"jax": 5e11, "torch": 4e11}}, "float32")
    500000000000.0
    """
    return max(peaks[dtype].values())


def _measure_framework(framework: str, threads: int) -> dict[str, float]:
    kind = "ours" if framework == "jax" else "eager-alloc"  # the faster setting of each
    env = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "GLIBC_TUNABLES": tunables(os.environ.get("GLIBC_TUNABLES", ""), keeps_memory(kind)),
    }
    command = [sys.executable, "-m", "tools.dev.bench.bench_peak", framework, str(threads)]
    process = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if process.returncode:
        lines = process.stderr.strip().splitlines() or ["no output"]
        raise UserError(f"{TITLES[kind]} failed at a matrix product: {lines[-1]}")
    return json.loads(process.stdout.splitlines()[-1])


def _fastest(product: Callable[[], Any], flops: int) -> float:
    """FLOP/s of the fastest call of `product`, which blocks until it has been computed."""
    product()
    times, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        product()
        times.append(time.perf_counter() - start)
    return flops / min(times)


def _jax() -> dict[str, float]:
    import jax
    import jax.numpy as jnp

    from research.cluster import cpu, device

    cpu.tune()
    device.choose(None)
    n = SIZES[jax.default_backend()]
    multiply = jax.jit(jnp.matmul)

    def product(a, b):
        multiply(a, b).block_until_ready()

    rates = {}
    for dtype in DTYPES:
        a, b = (jax.random.normal(jax.random.key(i), (n, n), dtype) for i in range(2))
        rates[dtype] = _fastest(partial(product, a, b), 2 * n**3)
    return rates


def _torch(threads: int) -> dict[str, float]:
    import torch

    from research.cluster import cpu
    from tools.dev.bench.bench_torch import use_tf32

    gpu = torch.cuda.is_available()
    if not gpu:
        cpu.keep_freed_memory()
    torch.set_num_threads(threads)
    use_tf32()
    n = SIZES["gpu" if gpu else "cpu"]

    def product(a, b):
        torch.matmul(a, b)
        if gpu:
            torch.cuda.synchronize()

    rates = {}
    for dtype in DTYPES:
        a, b = (torch.randn(n, n, device="cuda" if gpu else "cpu").to(getattr(torch, dtype)) for _ in range(2))
        rates[dtype] = _fastest(partial(product, a, b), 2 * n**3)
    return rates


if __name__ == "__main__":
    print(json.dumps(_jax() if sys.argv[1] == "jax" else _torch(int(sys.argv[2]))))

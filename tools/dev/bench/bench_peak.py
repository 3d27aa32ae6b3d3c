"""The most FLOP/s that a matrix product reaches here, by JAX and by PyTorch: what a training step is held against.

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
SECONDS = 2.0  # of products, for each dtype


def measure(threads: int, torch: bool) -> dict[str, Any]:
    """{dtype: {"jax": FLOP/s, "torch": FLOP/s}}: the best single product of each framework, one after the other."""
    by_framework = {name: _ask(name, threads) for name in ("jax", *(["torch"] if torch else []))}
    return {dtype: {name: rates[dtype] for name, rates in by_framework.items()} for dtype in DTYPES}


def best(peaks: dict[str, dict[str, float]], dtype: str) -> float:
    return max(peaks[dtype].values())


def _ask(framework: str, threads: int) -> dict[str, float]:
    kind = "ours" if framework == "jax" else "eager-alloc"  # the better setting of each
    env = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "GLIBC_TUNABLES": tunables(os.environ.get("GLIBC_TUNABLES", ""), keeps_memory(kind)),
    }
    command = [sys.executable, "-m", "tools.dev.bench.bench_peak", framework, str(threads)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise UserError(f"{TITLES[kind]} failed at a matrix product: {said[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _fastest(product: Callable[[], Any], flops: int) -> float:
    """FLOP/s of the quickest call of `product`, which returns when it has been computed."""
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

"""`almanac doctor`: what is installed, what the machine offers, and whether a step compiles and runs."""

import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from research.cluster import cpu
from research.data.download import data_folder
from tools.doctor.rows import Row

PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain"),
    *("tensorflow-datasets", "ml-collections", "tokenizers", "numpy"),
)
ENOUGH = 1 << 30  # bytes: under a gibibyte of disk or memory even the small experiments may fail
NO_BACKEND = (RuntimeError, AssertionError)  # what JAX raises where no platform starts


def examine() -> Iterator[Row]:
    """Every finding, in the order of printing; the slow ones last."""
    yield python_version(sys.version_info[:3])
    yield from (package(name) for name in PACKAGES)
    yield disk(Path.cwd())
    yield memory(Path("/proc/meminfo"))
    yield mirror(os.environ.get("ALMANAC_MIRROR"))
    yield folder("downloads", data_folder())
    yield Row("cpu", cpu.describe(os.environ))
    yield compilation_cache()
    yield devices()
    yield compiled_step()


def python_version(version: tuple[int, ...]) -> Row:
    remedy = "" if version >= (3, 11) else "install Python 3.11 or newer, remove .venv and run again"
    return Row("python", f"{'.'.join(map(str, version))} on {platform.platform(terse=True)}", remedy)


def package(name: str) -> Row:
    try:
        return Row(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Row(name, "missing", "remove .venv and run again: almanac makes it anew")


def disk(path: Path) -> Row:
    free = shutil.disk_usage(path).free
    return Row("disk", f"{_size(free)} free at {path}", "" if free > ENOUGH else "make room")


def memory(meminfo: Path) -> Row:
    """What Linux says can be had without swapping; elsewhere only the total."""
    if not meminfo.exists():
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Row("memory", f"{_size(total)} in all")
    kib = {line.split(":")[0]: int(line.split()[1]) for line in meminfo.read_text().splitlines()}
    free = kib["MemAvailable"] << 10
    remedy = "" if free > ENOUGH else "end other programs, or lower --config.data.batch_size"
    return Row("memory", f"{_size(free)} free of {_size(kib['MemTotal'] << 10)}", remedy)


def mirror(name: str | None) -> Row:
    if not name:
        return Row("data mirror", "none: ALMANAC_MIRROR is not set; data is embedded or downloaded")
    path = Path(name).expanduser()
    if not path.is_dir():
        return Row("data mirror", name, "no such folder; set ALMANAC_MIRROR to one, or unset it")
    sets = sorted(child.name for child in path.iterdir() if child.is_dir())
    if not sets:
        return Row("data mirror", name, "empty; it should hold <dataset>/<upstream file>")
    return Row("data mirror", f"{name}: {', '.join(sets)}")


def folder(name: str, path: Path) -> Row:
    """A folder that is made when it is needed; what counts is that it can be written."""
    existing = next(p for p in (path, *path.parents) if p.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        return Row(name, str(path), f"cannot write to {existing}; set XDG_CACHE_HOME elsewhere")
    used = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    return Row(name, f"{path} ({_size(used)})")


def compilation_cache() -> Row:
    import jax

    from research.cluster.device import use_compilation_cache

    use_compilation_cache()
    if path := jax.config.jax_compilation_cache_dir:
        return folder("compilation cache", Path(path))
    return Row("compilation cache", "off: JAX_COMPILATION_CACHE_DIR is empty")


def devices() -> Row:
    import jax

    try:
        found = jax.devices()
    except NO_BACKEND as error:
        remedy = "unset JAX_PLATFORMS, or install the extra that it needs: cuda or tpu"
        return Row("devices", _first_line(error), remedy)
    value = f"{len(found)} x {found[0].device_kind}"
    idle_gpu = any(Path("/dev").glob("nvidia[0-9]*")) and "JAX_PLATFORMS" not in os.environ
    if idle_gpu and found[0].platform == "cpu":
        return Row("devices", value, "a GPU is not used: .venv/bin/pip install 'jax[cuda12]'")
    return Row("devices", value)


def compiled_step() -> Row:
    """Compiles the gradient of ||xw||^2, uncached, runs it and compares it with 2 x'xw."""
    import jax
    import numpy as np

    x = np.linspace(-1, 1, 64 * 32, dtype=np.float32).reshape(64, 32)
    w = np.ones((32, 8), np.float32)
    cached = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        start = time.perf_counter()
        step = jax.jit(jax.grad(lambda w: ((x @ w) ** 2).sum())).lower(w).compile()
        compiled = time.perf_counter() - start
        gradient = np.asarray(step(w))  # the first run may set up the device: not timed
        start = time.perf_counter()
        step(w).block_until_ready()
        ran = time.perf_counter() - start
    except NO_BACKEND as error:
        return Row("compiled step", _first_line(error), "see the row on devices")
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)
    value = f"compiled in {compiled:.2f} s, ran in {1e3 * ran:.2f} ms"
    expected = 2 * x.T @ x @ w
    if np.abs(gradient - expected).max() > 0.02 * np.abs(expected).max():  # bf16 on a TPU: 2^-8
        return Row("compiled step", value, "its numbers are wrong: reinstall jax and its driver")
    return Row("compiled step", value)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "no platform starts")


def _size(count: int) -> str:
    unit, name = (1 << 30, "GiB") if count >= 1 << 30 else (1 << 20, "MiB")
    return f"{count / unit:.1f} {name}"

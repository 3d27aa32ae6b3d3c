"""`almanac doctor`: the installed packages, the machine's resources, and whether a step compiles and runs."""

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
NO_BACKEND = (RuntimeError, AssertionError)  # what JAX raises if no platform starts


def examine() -> Iterator[Row]:
    """All rows, in the order of printing; the slow checks are last."""
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
    """The version, with a remedy below 3.11.

    >>> python_version((3, 10, 1)).remedy
    'install Python 3.11 or newer, remove .venv and run again'
    """
    remedy = "" if version >= (3, 11) else "install Python 3.11 or newer, remove .venv and run again"
    return Row("python", f"{'.'.join(map(str, version))} on {platform.platform(terse=True)}", remedy)


def package(name: str) -> Row:
    """The installed version of a distribution."""
    try:
        return Row(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Row(name, "missing", "remove .venv and run again: almanac creates it again")


def disk(path: Path) -> Row:
    """The free space of the disk that holds `path`."""
    free = shutil.disk_usage(path).free
    return Row("disk", f"{_size(free)} free at {path}", "" if free > ENOUGH else "free some space")


def memory(meminfo: Path) -> Row:
    """The memory available without swapping, as Linux reports it; on other systems only the total."""
    if not meminfo.exists():
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Row("memory", f"{_size(total)} in all")
    kib = {line.split(":")[0]: int(line.split()[1]) for line in meminfo.read_text().splitlines()}
    free = kib["MemAvailable"] << 10
    remedy = "" if free > ENOUGH else "end other programs, or lower --config.data.batch_size"
    return Row("memory", f"{_size(free)} free of {_size(kib['MemTotal'] << 10)}", remedy)


def mirror(name: str | None) -> Row:
    """The data sets in the folder that ALMANAC_MIRROR names."""
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
    """A folder that is created on demand: the row has a remedy if it cannot be written."""
    existing = next(p for p in (path, *path.parents) if p.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        return Row(name, str(path), f"cannot write to {existing}; set XDG_CACHE_HOME elsewhere")
    used = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    return Row(name, f"{path} ({_size(used)})")


def compilation_cache() -> Row:
    """The folder of JAX's compilation cache, or that it is off."""
    import jax

    from research.cluster.device import use_compilation_cache

    use_compilation_cache()
    if path := jax.config.jax_compilation_cache_dir:
        return folder("compilation cache", Path(path))
    return Row("compilation cache", "off: JAX_COMPILATION_CACHE_DIR is empty")


def devices() -> Row:
    """The number and kind of JAX's devices, with a remedy if there is none or an NVIDIA GPU is not used."""
    import jax

    try:
        available = jax.devices()
    except NO_BACKEND as error:
        remedy = "unset JAX_PLATFORMS, or install the extra that it needs: cuda or tpu"
        return Row("devices", _first_line(error), remedy)
    value = f"{len(available)} x {available[0].device_kind}"
    idle_gpu = any(Path("/dev").glob("nvidia[0-9]*")) and "JAX_PLATFORMS" not in os.environ
    if idle_gpu and available[0].platform == "cpu":
        return Row("devices", value, "a GPU is not used: .venv/bin/pip install 'jax[cuda12]'")
    return Row("devices", value)


def compiled_step() -> Row:
    """Compiles the gradient of ||xw||^2 without the compilation cache, runs it and compares it with 2 x'xw."""
    import jax
    import numpy as np

    x = np.linspace(-1, 1, 64 * 32, dtype=np.float32).reshape(64, 32)
    w = np.ones((32, 8), np.float32)
    cached = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        start = time.perf_counter()
        step = jax.jit(jax.grad(lambda w: ((x @ w) ** 2).sum())).lower(w).compile()
        compile_seconds = time.perf_counter() - start
        gradient = np.asarray(step(w))  # not timed, because the first run may set up the device
        start = time.perf_counter()
        step(w).block_until_ready()
        run_seconds = time.perf_counter() - start
    except NO_BACKEND as error:
        return Row("compiled step", _first_line(error), "see the row on devices")
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)
    value = f"compiled in {compile_seconds:.2f} s, ran in {1e3 * run_seconds:.2f} ms"
    expected = 2 * x.T @ x @ w
    if np.abs(gradient - expected).max() > 0.02 * np.abs(expected).max():  # bf16 on a TPU: 2^-8
        return Row("compiled step", value, "its numbers are wrong: reinstall jax and its driver")
    return Row("compiled step", value)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "no platform starts")


def _size(count: int) -> str:
    """A number of bytes as text.

    >>> _size(3 << 20), _size(5 << 30)
    ('3.0 MiB', '5.0 GiB')
    """
    unit, name = (1 << 30, "GiB") if count >= 1 << 30 else (1 << 20, "MiB")
    return f"{count / unit:.1f} {name}"

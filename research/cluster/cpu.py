"""What makes steps fast on a CPU and must be set early: glibc's allocator, and XLA flags. No JAX is imported here.

XLA's CPU client allocates a step's temporaries anew each time. As installed, glibc returns them to the kernel, which then
clears the same pages again at the next step, two fifths of a small GPT's time. `./almanac` adds
TUNABLE to the environment, which glibc reads before a program starts; `tune` does the rest. Buffers above 64 MiB are mapped
anew all the same: the arenas of threads cannot hold them, and with one arena for all (M_ARENA_MAX) a GPT of 10.8 M took
4.9 GB in place of 1.6, and no less time.

Both are left alone where the CPU is not certainly what JAX will run on, and where ALMANAC_CPU_TUNING=off.
"""

import ctypes
import functools
import importlib.util
import os
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

SWITCH = "ALMANAC_CPU_TUNING"
TUNABLE = "glibc.malloc.hugetlb=1"  # transparent huge pages for what malloc holds
# Names and numbers are those of <malloc.h>. No buffer is mapped on its own, freed ones stay, and the heap grows by 64 MiB.
MALLOPT = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 64 << 20)}
FLAGS = {
    # Eigen's convolutions in place of YNNPACK's, which use one thread. Their sums have another order, and one for each number
    # of threads: research/cluster/determinism.py takes the flag out again.
    "--xla_cpu_experimental_ynn_fusion_type": "-individual_convolution",
    # Keeps optimization barriers until fusion is done: see research/nn/convolution.py.
    "--xla_disable_hlo_passes": "cse_barrier_expander",
}
CONVOLUTIONS = "--xla_cpu_experimental_ynn_fusion_type"
JAXLIBS = ((0, 10, 2), (0, 13))  # from, below: an XLA that does not know a flag ends the process


def tune(platform: str | None = None) -> None:
    """Sets the allocator and the flags if JAX will run on the CPU (`platform`: as asked for; None: as JAX would find it).

    Call it before JAX starts its backend; afterwards the flags stay as they are. A second call changes nothing.
    """
    if wanted(platform, os.environ):
        keep_freed_memory()
        if knows_flags() and not _backend_runs():
            os.environ["XLA_FLAGS"] = with_flags(os.environ.get("XLA_FLAGS", ""))


def wanted(platform: str | None, environ: Mapping[str, str]) -> bool:
    """Whether the CPU is certainly what JAX will run on, and the switch is not off."""
    if environ.get(SWITCH, "").lower() == "off":
        return False
    asked = platform or environ.get("JAX_PLATFORMS")
    return asked == "cpu" if asked else not _accelerator_plugins()


def with_flags(flags: str) -> str:
    """XLA_FLAGS with those of ours that they do not name already."""
    named = {flag.split("=")[0] for flag in flags.split()}
    return " ".join([*flags.split(), *(f"{name}={value}" for name, value in FLAGS.items() if name not in named)])


def with_own_convolutions(flags: str) -> str:
    """XLA_FLAGS without a choice of convolutions, whoever made it: XLA's, with the same bits on any number of threads."""
    return " ".join(flag for flag in flags.split() if flag.split("=")[0] != CONVOLUTIONS)


def knows_flags() -> bool:
    """Whether the installed jaxlib is one that the flags were tried with."""
    try:
        version = tuple(int(part) for part in metadata.version("jaxlib").split(".")[:3])
    except (metadata.PackageNotFoundError, ValueError):
        return False
    return JAXLIBS[0] <= version < JAXLIBS[1]


@functools.cache
def keep_freed_memory() -> bool:
    """Whether glibc now keeps what is freed. Its calls return 1 for yes."""
    if not _is_glibc():
        return False
    libc = ctypes.CDLL(None)
    return all(libc.mallopt(parameter, value) == 1 for parameter, value in MALLOPT.values())


def describe(environ: Mapping[str, str]) -> str:
    """One line for `almanac doctor`: what is on."""
    if not wanted(None, environ):
        off = environ.get(SWITCH, "").lower() == "off"
        return f"off: {SWITCH}=off" if off else "off: JAX may run on an accelerator here"
    memory = "keeps freed memory" if keep_freed_memory() else "glibc's allocator is not here"
    pages = "huge pages" if TUNABLE in environ.get("GLIBC_TUNABLES", "").split(":") else "usual pages"
    convolutions = "Eigen's convolutions" if CONVOLUTIONS in environ.get("XLA_FLAGS", "") else "XLA's convolutions"
    return f"{memory}, {pages}, {convolutions}"


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, OSError, ValueError):  # Windows; macOS and musl
        return False


def _accelerator_plugins() -> bool:
    """Whether JAX would try a GPU or a TPU: plugins are packages in `jax_plugins` or entry points; libtpu needs a TPU."""
    if importlib.util.find_spec("jax_plugins") or metadata.entry_points(group="jax_plugins"):
        return True
    return bool("TPU_LIBRARY_PATH" in os.environ or importlib.util.find_spec("libtpu")) and _has_tpu()


def _has_tpu() -> bool:
    """Whether a PCI device is Google's, as JAX looks for TPUs."""
    vendors = Path("/sys/bus/pci/devices").glob("*/vendor")
    return any(vendor.read_text().strip() == "0x1ae0" for vendor in vendors)


def _backend_runs() -> bool:
    if "jax" not in sys.modules:
        return False
    from jax._src import xla_bridge  # there is no public way to ask

    return xla_bridge.backends_are_initialized()

"""The switch `deterministic`, and what the promise of equal bits rests on.

GPU  kernels whose sums have one order, and no choice among kernels by their speed (XLA's xla_gpu_deterministic_ops).
CPU  the same bits each time already; but Eigen's convolutions sum in an order that depends on the number of threads, so the
     switch leaves XLA its own; and where the process may use only one core it asks for two threads, since larger
     convolutions of XLA's own differ between one and several.
TPU  nothing to switch.
"""

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from research.cluster import cpu, device
from research.util.errors import UserError

GPU_FLAG = "--xla_gpu_deterministic_ops"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
VECTORS = re.compile(r"avx\w*|fma|f16c|amx\w*|sve\w*|asimd\w*")  # extensions that decide how sums are split
NO_NUMBERS = (
    "--xla_force_host_platform_device_count",
    "--xla_cpu_collective",
    "--xla_dump",
    GPU_FLAG,
)  # XLA flags counted elsewhere, or harmless


def switch_on() -> None:
    """Before JAX starts its backend (again: no harm). Where a GPU runs without it already, an error."""
    from jax._src import xla_bridge  # there is no public way to ask

    given = os.environ.get("XLA_FLAGS", "")
    flags = cpu.with_own_convolutions(given)
    wanted = " ".join([*(flag for flag in flags.split() if flag.split("=")[0] != GPU_FLAG), f"{GPU_FLAG}=true"])
    if xla_bridge.backends_are_initialized():
        if jax.default_backend() == "cpu" and cpu.CONVOLUTIONS in given:
            raise UserError(
                f"deterministic = True: JAX already runs with {cpu.CONVOLUTIONS}; set {cpu.SWITCH}=off before it starts"
            )
        if jax.default_backend() == "gpu" and given != wanted:
            raise UserError(
                f"deterministic = True: JAX already runs on the GPU without it; set XLA_FLAGS={GPU_FLAG}=true before it starts"
            )
        return
    os.environ["XLA_FLAGS"] = wanted
    if _threads() == "one":
        os.environ["NPROC"] = "2"  # what XLA takes for the number of cores


def fingerprint(mesh: Mesh) -> dict[str, Any]:
    """What bits depend on besides config and code: devices, versions, and what XLA compiles a program for."""
    one = mesh.devices.flat[0]
    versions = device.versions()
    found = {
        "platform": one.platform,
        "device kind": one.device_kind,
        "devices": mesh.size,
        "hosts": jax.process_count(),
        "mesh": " x ".join(f"{name} {size}" for name, size in mesh.shape.items()),
        **{name: versions[name] for name in PACKAGES},
        "XLA_FLAGS": " ".join(
            sorted(f for f in os.environ.get("XLA_FLAGS", "").split() if not f.startswith(NO_NUMBERS))
        ),
        "matmul precision": str(jax.config.jax_default_matmul_precision),
    }
    if one.platform == "cpu":
        return found | {"instruction set": instruction_set(Path("/proc/cpuinfo")), "threads": _threads()}
    return found | {"driver": " ".join(one.client.platform_version.split())}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`jaxlib: 0.10.2 then, 0.11.0 now` for each thing that both fingerprints know and that differs."""
    return [
        f"{key}: {old[key] or 'none'} then, {new[key] or 'none'} now"
        for key in old
        if old[key] != new.get(key, old[key])
    ]


def check(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raises UserError if a deterministic run would compute other bits here, or if its fingerprint is none."""
    if not isinstance(old, Mapping):
        raise UserError(f"{folder}/config.json: 'fingerprint': wanted an object, not {old!r}")
    if changed := differences(old, new):
        raise UserError(
            f"{folder} is deterministic and would not go on to the bit: {'; '.join(changed)}. Go on where it ran, or with "
            "--resume=force"
        )


def instruction_set(cpuinfo: Path) -> str:
    """`x86_64 avx avx2 fma`: the vector extensions that Linux lists; elsewhere the architecture alone."""
    names = [platform.machine()]
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.lower().startswith(("flags", "features"))]
        words = lines[0].split(":", 1)[1].split() if lines else []
        names += sorted(word for word in words if VECTORS.fullmatch(word))
    return " ".join(names)


def _threads() -> str:
    """Whether XLA's pool on this CPU has one thread or several, as it counts them when it starts."""
    asked = os.environ.get("NPROC", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return "one" if (int(asked) if asked.isdigit() else cores) == 1 else "several"

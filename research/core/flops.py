"""FLOPs counted from the jaxpr, scans times their lengths (XLA's own count takes a scan's body once), and known peaks."""

import math
from collections.abc import Callable
from typing import Any

import jax

# Dense bf16 FLOP/s a chip, from the makers' data sheets.
PEAKS = {
    "TPU v3": 123e12, "TPU v4": 275e12, "TPU v5 lite": 197e12, "TPU v5e": 197e12, "TPU v5": 459e12, "TPU v5p": 459e12,
    "TPU v6 lite": 918e12, "TPU v6e": 918e12, "NVIDIA A100": 312e12, "NVIDIA H100": 989e12, "NVIDIA H200": 989e12,
}  # fmt: skip


def peak(device: jax.Device) -> float | None:
    """Peak FLOP/s of a device, where known."""
    fits = [name for name in PEAKS if device.device_kind.startswith(name)]
    return PEAKS[max(fits, key=len)] if fits else None


def share(trace: Callable[[], Any], mesh: Any) -> float | None:
    """A step's FLOPs over the mesh's peak FLOP/s: its MFU at a step a second. None where no peak is known."""
    most = peak(mesh.devices.flat[0])
    return count(trace()) / (most * mesh.size) if most else None


def count(jaxpr: Any) -> int:
    """FLOPs of the matrix products and convolutions of a (closed) jaxpr; a multiply and an add are two."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    return sum(_equation(eqn) for eqn in jaxpr.eqns)


def _equation(eqn: Any) -> int:
    name = eqn.primitive.name
    if name == "dot_general":
        (contract, _), _ = eqn.params["dimension_numbers"]
        inner = math.prod(eqn.invars[0].aval.shape[d] for d in contract)
        return 2 * eqn.outvars[0].aval.size * inner
    if name == "conv_general_dilated":
        kernel = eqn.invars[1].aval
        outputs = kernel.shape[eqn.params["dimension_numbers"].rhs_spec[0]]
        zeros = math.prod(eqn.params["lhs_dilation"])  # a strided one's gradient, or a transposed one: not multiplied
        return 2 * eqn.outvars[0].aval.size * kernel.size // outputs // zeros
    if name.startswith("dot_product_attention_"):  # cuDNN's: two products forward, four backward beside one made again
        q, k = (v.aval for v in eqn.invars[:2])  # [B, T, H, K], [B, S, N, K]
        return (4 if "bwd" in name else 2) * 2 * q.size * k.shape[1]
    if name == "cond":
        return max(count(branch) for branch in eqn.params["branches"])
    times = eqn.params["length"] if name == "scan" else 1
    return times * sum(count(inner) for inner in _inner(eqn.params))


def _inner(params: dict) -> list:
    values = [v for value in params.values() for v in (value if isinstance(value, (tuple, list)) else (value,))]
    return [v for v in values if hasattr(v, "eqns") or hasattr(getattr(v, "jaxpr", None), "eqns")]

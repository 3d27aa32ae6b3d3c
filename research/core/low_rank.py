"""Frozen parameters and the low-rank adapters that are added to them (LoRA, Hu et al. 2021, 2106.09685, eq. 3).

`TrainState.model_state["frozen"]` is then {"params": what does not train, "scale": f32[]}, and `TrainState.params` what trains:
at the path of an adapted matrix f[in, out] {"lora_a": f[in, r], "lora_b": f[r, out]}, all three with a leading L for a stack of
layers; and, at their own paths, parameters that train in full, which the frozen tree lacks. A mesh's rules for `kernel$` thus
are the matrix's and not its adapters', which are replicated.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

FROZEN = "frozen"
A, B = "lora_a", "lora_b"


@jax.jit
def merge(frozen: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, Any]:
    """-> the parameters that the model computes with: W + scale a b for an adapted matrix W, the others as they are.

    The product is of W's dtype and, on every device, of full precision.

    >>> frozen = {"params": {"head": {"kernel": jnp.ones((1, 2))}}, "scale": jnp.float32(0.5)}
    >>> adapters = {"lora_a": jnp.full((1, 1), 3.0), "lora_b": jnp.array([[2.0, 0.0]])}
    >>> merge(frozen, {"head": {"kernel": adapters, "bias": jnp.zeros(2)}})["head"]["kernel"].tolist()
    [[4.0, 1.0]]
    """
    return _merged(frozen["params"], trained, frozen["scale"])


def _merged(base: Any, trained: Mapping[str, Any], scale: jax.Array) -> Any:
    if isinstance(base, Mapping):
        both = {name: _merged(base[name], trained.get(name, {}), scale) for name in base}
        return {**both, **{name: leaf for name, leaf in trained.items() if name not in base}}
    if not trained:
        return base
    a, b = (trained[name].astype(base.dtype) for name in (A, B))
    return base + jnp.matmul(scale * a, b, precision=jax.lax.Precision.HIGHEST)

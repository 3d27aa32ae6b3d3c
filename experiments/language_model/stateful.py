"""A recurrent model's state that is carried from one batch to the next if `data.carry` is True.

In training it is `TrainState.model_state["carry"]`, which is saved, restored and sharded with the other state. No gradient
reaches an earlier batch, because the carry is an input of the loss (truncated back-propagation, Zaremba et al. 2014).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from research.core.step import cast


def apply_with_carry(model: Any, params: Any, carry: Any, batch: Any, **options: Any) -> tuple:
    """-> logits of {"tokens": i32[B, T]}, and the carry after them. Row i is first set to 0 if "starts"[i] is true."""
    carry = jax.tree.map(lambda x: jnp.where(batch["starts"][:, None], 0, x), carry)
    cache = {"layers": carry, "index": 0}
    logits, cache = model.apply({"params": params}, batch["tokens"], cache=cache, **options)
    return logits, cache["layers"]


def make_eval_step(model: Any, batch_metrics: Callable, cfg: Any) -> Callable:
    """-> `eval_step(state, batch)`, which returns metric sums and carries the model's state from one batch to the next.

    Batches must come in the order of the split. The first one starts every row, so no state is left of an earlier evaluation.
    """
    carry = model.init_cache(cfg.data.eval_batch_size)["layers"]

    @jax.jit
    def carried_step(params, carry, batch):
        logits, carry = apply_with_carry(model, cast(params, cfg.dtype), carry, batch, defer_logits=True)
        return batch_metrics({"logits": logits}, batch), carry

    def eval_step(state, batch):
        nonlocal carry
        sums, after = carried_step(state.variables["params"], carry, batch)
        if not isinstance(jax.tree.leaves(sums)[0], jax.core.Tracer):  # when only shapes are traced, nothing is carried
            carry = after
        return sums

    return eval_step

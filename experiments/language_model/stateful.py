"""A recurrent model's state, carried from one batch to the next where `data.carry` is True.

In training it is `TrainState.model_state["carry"]`: saved, restored and split over devices with the rest. No gradient goes back
past a batch: the state comes into the loss as data (truncated back-propagation, Zaremba et al. 2014).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from research.core.step import cast


def apply_with_carry(model: Any, params: Any, carry: Any, batch: Any, **options: Any) -> tuple:
    """-> logits of {"tokens": i32[B, T]}, and the carry after them. A row with "starts" bool[B] begins with a carry of zeros."""
    carry = jax.tree.map(lambda x: jnp.where(batch["starts"][:, None], 0, x), carry)
    cache = {"layers": carry, "index": 0}
    logits, cache = model.apply({"params": params}, batch["tokens"], cache=cache, **options)
    return logits, cache["layers"]


def make_eval_step(model: Any, batch_metrics: Callable, cfg: Any) -> Callable:
    """(state, batch) -> metric sums, for the batches of a split in their order: each continues with the carry of the one before.

    The first batch starts every row, so nothing is left of an earlier evaluation.
    """
    carry = model.init_cache(cfg.data.eval_batch_size)["layers"]

    @jax.jit
    def one(params, carry, batch):
        logits, carry = apply_with_carry(model, cast(params, cfg.dtype), carry, batch, defer_logits=True)
        return batch_metrics({"logits": logits}, batch), carry

    def eval_step(state, batch):
        nonlocal carry
        sums, after = one(state.variables["params"], carry, batch)
        if not isinstance(
            jax.tree.leaves(sums)[0], jax.core.Tracer
        ):  # where shapes alone are asked for, nothing is carried
            carry = after
        return sums

    return eval_step

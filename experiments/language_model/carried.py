"""A recurrent model's state, carried from one batch to the next where `data.carry` is True.

In training it is `TrainState.model_state["carry"]`: saved, restored and split over devices with the rest. No gradient goes back
past a batch: the state comes into the loss as data (truncated back-propagation, Zaremba et al. 2014).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from research.core.step import cast


def go_on(model: Any, params: Any, carry: Any, batch: Any, **how: Any) -> tuple:
    """Logits of {"tokens": i32[B, T]} read on from the state `carry`, or from none where "starts" bool[B]; the state after."""
    carry = jax.tree.map(lambda x: jnp.where(batch["starts"][:, None], 0, x), carry)
    cache = {"layers": carry, "index": 0}
    logits, cache = model.apply({"params": params}, batch["tokens"], cache=cache, **how)
    return logits, cache["layers"]


def make_eval_step(model: Any, measure: Callable, cfg: Any) -> Callable:
    """(state, batch) -> pairs, for the batches of a sweep in their order: each goes on from the one before.

    The first of them starts from nothing, so nothing is left of what was evaluated before.
    """
    carry = model.init_cache(cfg.data.eval_batch_size)["layers"]

    @jax.jit
    def one(params, carry, batch):
        logits, carry = go_on(model, cast(params, cfg.dtype), carry, batch, defer_logits=True)
        return measure({"logits": logits}, batch), carry

    def eval_step(state, batch):
        nonlocal carry
        pairs, carry = one(state.variables["params"], carry, batch)
        return pairs

    return eval_step

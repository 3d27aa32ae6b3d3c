"""What both algorithms' steps are made of: several optimiser updates, and several agents side by side."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from research.core.optim import Optimizer
from research.core.state import TRAINING, TrainState


def summed(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of updates or agents, stacked on a first axis -> those of all: sums and weights add up; the first that is "bad"."""
    return {
        name: value[jnp.argmax(value >= 0)] if name.endswith("bad") else (value[0].sum(0), value[1].sum(0))
        for name, value in metrics.items()
    }


def init_each(init: Callable, seed: int, seeds: int) -> Callable:
    """The initialisation of agents side by side, agent i as in a run of `seed` + i alone: a first axis on every array.

    Their own keys of the steps are kept with them.
    """

    def one(words):
        init_key, run_key = jax.random.split(jax.random.wrap_key_data(words))
        variables = init(init_key)
        return {**variables, TRAINING: {**variables[TRAINING], "key": jax.random.key_data(run_key)}}

    def several(key):
        del key  # of this run; each agent has its own
        return jax.vmap(one)(jnp.stack([jax.random.key_data(jax.random.key(seed + i)) for i in range(seeds)]))

    return several


def side_by_side(step: Callable) -> Callable:
    """A training step of one agent -> that of several, whose arrays have a first axis; each draws from its own key."""
    axes: Any = TrainState(step=None, params=0, opt=0, model_state=0, ema=0, key=0, skipped=None)

    def several(state, batch):
        keys = jax.random.wrap_key_data(state.model_state[TRAINING]["key"])
        after, metrics = jax.vmap(step, (axes, None), (axes, 0))(state.replace(key=keys), batch)
        return after.replace(key=state.key), {**summed(metrics), **by_agent(metrics)}

    return several


def by_agent(metrics: Mapping[str, Any]) -> dict[str, tuple]:
    """The return of each agent as a metric of its own, return_0 and so on."""
    total, weight = metrics["return"]
    return {f"return_{i}": (total[i], weight[i]) for i in range(len(total))}


def for_each(tx: Optimizer) -> Optimizer:
    """An optimiser whose state has one of `tx` for each agent."""
    return tx._replace(init=jax.vmap(tx.init), update=jax.vmap(tx.update))

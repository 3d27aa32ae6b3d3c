"""Metrics are (sum, weight) pairs: summed over devices, hosts, microbatches and batches, divided once."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MetricSums = Mapping[str, tuple[Any, Any]]  # {name: (sum f32[], weight f32[])}
Terms = Mapping[str, tuple[Any, Any, Any]]  # of an objective: {name: (sum f32[], weight f32[], coefficient)}


def pair(values: jax.Array, weights: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """values f32[...], weights f32[...] (ones by default) -> (weighted sum f32[], weight f32[])."""
    values = values.astype(jnp.float32)
    weights = jnp.ones_like(values) if weights is None else jnp.broadcast_to(weights, values.shape)
    return jnp.sum(values * weights), jnp.sum(weights, dtype=jnp.float32)


def mean(pair: tuple) -> jax.Array:
    """(sum, weight) -> sum / weight; 0 if both are 0."""
    return pair[0] / jnp.maximum(pair[1], 1e-9)


def objective(terms: Terms, weights: Mapping[str, Any] | None = None) -> jax.Array:
    """The scalar that `terms` stand for: the sum of coefficient * sum / weight, f32[].

    `weights` {name: f32[]} take the place of the terms' own: those of the whole batch, if `terms` are a part's.
    """
    parts = [
        coefficient * mean((total, weight if weights is None else weights[name]))
        for name, (total, weight, coefficient) in terms.items()
    ]
    return sum(parts[1:], parts[0])


def reduce(rows: Iterable[MetricSums]) -> dict[str, float]:
    """MetricSums of several steps -> {name: mean}, summed in double precision on the host."""
    total: dict[str, np.ndarray] = {}
    for row in rows:
        for name, value in row.items():
            total[name] = total.get(name, np.zeros(2)) + np.asarray(value, np.float64)
    return {name: float(s / w) if w else float("nan") for name, (s, w) in total.items()}

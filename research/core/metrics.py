"""Metrics are (sum, weight) pairs: summed over devices, hosts, microbatches and batches, divided once."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.util.errors import UserError

MetricSums = Mapping[str, tuple[Any, Any]]  # {name: (sum f32[], weight f32[])}
Terms = Mapping[str, tuple[Any, Any, Any]]  # of an objective: {name: (sum f32[], weight f32[], coefficient)}


def pair(values: jax.Array, weights: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """values f32[...], weights f32[...] (ones by default) -> (weighted sum f32[], weight f32[]).

    The weights may lack trailing axes: f32[B] weights rows. Raises UserError if their shape is not how that of the values begins.
    """
    values = values.astype(jnp.float32)
    weights = jnp.ones_like(values) if weights is None else broadcast_weights(weights, values.shape)
    return jnp.sum(values * weights), jnp.sum(weights, dtype=jnp.float32)


def broadcast_weights(weights: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """weights [...] -> [shape], each repeated along the axes that it lacks. Raises UserError as `pair` does.

    NumPy's rule would set weights f32[T] against the last axis of [B, T], or one of f32[B, 1] against each row, unseen.
    """
    if weights.shape != shape[: weights.ndim]:
        raise UserError(
            f"weights of shape {list(weights.shape)} for values of {list(shape)}: want {list(shape)}, or its first axes alone"
        )
    return jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)


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


def check(metrics: MetricSums) -> None:
    """Raises UserError for a metric that is no pair of scalars. Shapes suffice: it can be called while a step is traced."""
    for name, value in metrics.items():
        _check_scalars(f"metric {name!r}", value, ("sum", "weight"))


def check_terms(terms: Terms) -> None:
    """As `check`, of the terms of an objective."""
    for name, value in terms.items():
        _check_scalars(f"loss term {name!r}", value, ("sum", "weight", "coefficient"))


def _check_scalars(what: str, values: Any, names: tuple[str, ...]) -> None:
    wanted = f"({', '.join(names)})"
    if not isinstance(values, tuple | list) or len(values) != len(names):
        raise UserError(f"{what} is {_words(values)}: want {wanted}, each a scalar; see research.core.metrics.pair")
    if any(jnp.shape(value) for value in values):
        shapes = ", ".join(f"{name} {list(jnp.shape(value))}" for name, value in zip(names, values, strict=True))
        raise UserError(f"{what} has shapes {shapes}: want scalars; see research.core.metrics.pair")


def _words(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"{len(value)} values"
    return f"an array of shape {list(value.shape)}" if hasattr(value, "shape") else f"a {type(value).__name__}"


def reduce(rows: Iterable[MetricSums]) -> dict[str, float]:
    """MetricSums of several steps -> {name: mean}, summed in double precision on the host."""
    total: dict[str, np.ndarray] = {}
    for row in rows:
        for name, value in row.items():
            total[name] = total.get(name, np.zeros(2)) + np.asarray(value, np.float64)
    return {name: float(s / w) if w else float("nan") for name, (s, w) in total.items()}

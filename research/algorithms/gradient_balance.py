"""Two tasks' gradients, balanced where they share parameters: PCGrad, and MGDA's least norm.

`by_term` and `combine` are the two halves of an estimator for research/core/step.py: what is linear, summed over microbatches,
and what is not, of the whole batch.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from research.core.arrays import Array
from research.core.mesh import path_name
from research.core.metrics import objective

Scalar = Float[Array, ""]


def by_term(loss, params: Any, model_state: Any, batch: Mapping, key: jax.Array, weights: Mapping | None = None):
    """As `research.core.step.gradients`, with a gradient of each term: ({term: gradients}, metrics, model_state)."""

    def values(params):
        terms, aux = loss(params, model_state, batch, key)
        return {name: objective({name: term}, weights) for name, term in terms.items()}, aux

    out, pull_back, (metrics, model_state) = jax.vjp(values, params, has_aux=True)
    zero = jax.tree.map(jnp.zeros_like, out)
    grads = {name: pull_back({**zero, name: jnp.ones_like(out[name])})[0] for name in out}
    return grads, metrics, model_state


def pcgrad(aa: Scalar, ab: Scalar, bb: Scalar) -> tuple[Scalar, Scalar]:
    """Dot products of gradients a and b -> the factors of both in their sum, after PCGrad (Yu et al. 2020, 2001.06782).

    If a . b < 0, each loses its projection on the other: a - (a . b / b . b) b, and b likewise. Two need no order.

    >>> [float(x) for x in pcgrad(jnp.float32(1), jnp.float32(-1), jnp.float32(2))]  # a = (1, 0), b = (-1, 1)
    [2.0, 1.5]
    """
    conflict = jnp.minimum(ab, 0)
    return 1 - _divided(conflict, aa), 1 - _divided(conflict, bb)


def mgda(aa: Scalar, ab: Scalar, bb: Scalar) -> tuple[Scalar, Scalar]:
    """Dot products of gradients a and b -> (w, 1 - w), in 0..1, for which w a + (1 - w) b is the shortest.

    w = (b - a) . b / |a - b|^2, cut to 0..1 (Sener & Koltun 2018, 1810.04650, two tasks). Equal gradients have w = 1/2.

    >>> [float(x) for x in mgda(jnp.float32(4), jnp.float32(0), jnp.float32(1))]  # a = (2, 0), b = (0, 1)
    [0.20000000298023224, 0.800000011920929]
    """
    squared = aa - 2 * ab + bb
    w = jnp.where(squared > 0, jnp.clip(_divided(bb - ab, squared), 0, 1), 0.5)
    return w, 1 - w


RULES = {"pcgrad": pcgrad, "mgda": mgda}


def combine(rule: Callable, own: str, grads: Mapping[str, Any]) -> tuple[Any, dict]:
    """{term: gradients} of two terms -> (gradients, {"cosine", "TERM_weight": (value, 1)}).

    Parameters whose path `own` (a regular expression) matches belong to one term: their gradients are added as they are.
    The others are shared: `rule`'s factors of their gradients' dot products weigh them. The cosine is of the shared ones.
    """
    (name_a, a), (name_b, b) = grads.items()
    shared = jax.tree_util.tree_map_with_path(lambda path, _: not re.search(own, path_name(path)), a)
    aa, ab, bb = (_dot(x, y, shared) for x, y in ((a, a), (a, b), (b, b)))
    weight_a, weight_b = rule(aa, ab, bb)
    total = jax.tree.map(lambda x, y, both: weight_a * x + weight_b * y if both else x + y, a, b, shared)
    values = {"cosine": _divided(ab, jnp.sqrt(aa * bb)), f"{name_a}_weight": weight_a, f"{name_b}_weight": weight_b}
    return total, {name: (value, 1.0) for name, value in values.items()}


def estimator(name: str, own: str) -> dict[str, Callable]:
    """Keywords of `research.core.step.update` for a rule's name."""
    return {"grad": by_term, "combine": partial(combine, RULES[name], own)}


def _dot(a: Any, b: Any, chosen: Any) -> Scalar:
    products = jax.tree.map(lambda x, y, yes: jnp.sum(x * y) if yes else 0.0, a, b, chosen)
    return sum(jax.tree.leaves(products), jnp.zeros(()))


def _divided(a: Scalar, b: Scalar) -> Scalar:
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)

"""A bound on the norm of each unit's incoming weights, kept by projection after every update (Srebro & Shraibman 2005; for
dropout Hinton et al. 2012, 1207.0580; Kim 2014, 1408.5882, bounds his last layer by 3)."""

import re
from typing import Any

import jax
import jax.numpy as jnp

from research.core.mesh import path_name
from research.core.optim import Optimizer
from research.util.errors import UserError


def wrap(tx: Optimizer, limit: float, match: str) -> Optimizer:
    """An Optimizer whose updates end inside the bound: the last link of the chain, on what the parameters become."""
    if limit < 0:
        raise UserError(f"max_norm.limit = {limit}: above 0, or 0 for none")
    try:
        re.compile(match)
    except re.error as e:
        raise UserError(f"max_norm.match = {match!r} is no regular expression: {e}") from None
    if not limit:
        return tx

    def init(params: Any) -> Any:
        paths = [path_name(path) for path, leaf in jax.tree_util.tree_leaves_with_path(params) if leaf.ndim > 1]
        if not any(re.search(match, path) for path in paths):
            raise UserError(f"max_norm.match = {match!r} matches no kernel; see the paths with `almanac show`")
        return tx.init(params)

    def one(path: tuple, update: jax.Array, value: jax.Array) -> jax.Array:
        if value.ndim < 2 or not re.search(match, path_name(path)):
            return update
        new = value + update
        norm = jnp.sqrt(jnp.sum(jnp.square(new.astype(jnp.float32)), axis=tuple(range(new.ndim - 1)), keepdims=True))
        return (new * (limit / jnp.maximum(norm, limit))).astype(new.dtype) - value

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return jax.tree_util.tree_map_with_path(one, updates, params), state

    return tx._replace(init=init, update=update)

"""What a picture draws (its views, its mask): a function of the seed, the epoch and its number, of no batch and no device."""

from collections.abc import Callable
from typing import Any

import jax

from research.core.step import make_rngs

Augment = Callable[[jax.Array, dict], dict]  # (key, batch) -> batch: research/data/images/augment.py


def keys(draw: jax.Array, seed: int, stream: str) -> jax.Array:
    """i32[B, 2] -> a key for each row."""
    fold, key = jax.random.fold_in, make_rngs(jax.random.key(seed), stream)[stream]
    return jax.vmap(lambda row: fold(fold(key, row[0]), row[1]))(draw)


def augmented(batch: Any, seed: int, augment: Augment, views: int = 1) -> jax.Array:
    """Random views of the batch's pictures: f[B, views, Y, X, C]."""

    def one(key: jax.Array, picture: jax.Array) -> jax.Array:
        repeated = jax.vmap(lambda key: augment(key, {"image": picture[None]})["image"][0])
        return repeated(jax.random.split(key, views))

    return jax.vmap(one)(keys(batch["draw"], seed, "augment"), batch["image"])

"""Random views of pictures, each a function of the seed, the epoch and the picture's number."""

from collections.abc import Callable
from typing import Any

import jax

from research.data import draws

Augment = Callable[[jax.Array, dict], dict]  # (key, batch) -> batch: research/data/images/augment.py


def augmented(batch: Any, seed: int, augment: Augment, views: int = 1) -> jax.Array:
    """Random views of the batch's pictures: f[B, views, Y, X, C]."""

    def one(key: jax.Array, picture: jax.Array) -> jax.Array:
        repeated = jax.vmap(lambda key: augment(key, {"image": picture[None]})["image"][0])
        return repeated(jax.random.split(key, views))

    return jax.vmap(one)(draws.keys(batch["draw"], seed, "augment"), batch["image"])

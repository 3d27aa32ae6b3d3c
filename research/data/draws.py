"""What an example draws (noise, a view, a mask): a function of a seed, the epoch and its number, of no batch and no device.

So microbatches draw what the whole batch does, and every run is evaluated with the same noise.
"""

import jax
import numpy as np

from research.core.arrays import Array
from research.core.step import make_rngs
from research.data.pipeline import Source


class Drawn:
    """A source whose batches also have "draw" i32[n, 2], each example's epoch and index."""

    def __init__(self, source: Source):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def gather(self, indices: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        draw = np.stack([np.full(len(indices), epoch), indices], axis=1).astype(np.int32)
        return {**self.source.gather(indices, epoch), "draw": draw}


def keys(draw: Array, seed: int, stream: str) -> jax.Array:
    """i32[B, 2], the `draw` of examples -> a key for each, [B]; streams of other names are independent."""
    fold, key = jax.random.fold_in, make_rngs(jax.random.key(seed), stream)[stream]
    return jax.vmap(lambda row: fold(fold(key, row[0]), row[1]))(draw)

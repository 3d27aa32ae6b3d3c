"""Position encodings that are added to token embeddings."""

import jax.numpy as jnp
from jaxtyping import Float32, Real

from research.core.arrays import Array


def sinusoids(positions: Real[Array, " T"], width: int, base: float = 10_000.0) -> Float32[Array, "T {width}"]:
    """Vaswani et al. 2017 (1706.03762), section 3.5, for an even width D.

    Sines are in the first half and cosines in the second, as in tensor2tensor, fairseq and Marian; the paper
    alternates them, which differs by a fixed permutation of the D columns.
    """
    angles = positions[:, None] * base ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def sinusoids_2d(
    rows: int, columns: int, width: int, base: float = 10_000.0
) -> Float32[Array, "{rows}*{columns} {width}"]:
    """Positions of a grid, row by row: sines and cosines of the column, then of the row, in quarters of the width.

    MoCo v3's (Chen et al. 2021, 2104.02057) as big_vision has them: frequencies from 1 to 1 / base inclusive. The width must be
    a multiple of 4, above 4.
    """
    frequencies = base ** -(jnp.arange(width // 4, dtype=jnp.float32) / (width // 4 - 1))
    y, x = jnp.mgrid[:rows, :columns].reshape(2, -1, 1) * frequencies
    return jnp.concatenate([jnp.sin(x), jnp.cos(x), jnp.sin(y), jnp.cos(y)], axis=-1)

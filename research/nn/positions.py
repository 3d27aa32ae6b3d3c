"""Position encodings that are added to token embeddings."""

import jax.numpy as jnp
from jaxtyping import Float32, Int

from research.core.arrays import Array


def sinusoids(positions: Int[Array, " T"], width: int, base: float = 10_000.0) -> Float32[Array, "T {width}"]:
    """Vaswani et al. 2017 (1706.03762), section 3.5, for an even width D.

    Sines are in the first half and cosines in the second, as in tensor2tensor, fairseq and Marian; the paper
    alternates them, which differs by a fixed permutation of the D columns.
    """
    angles = positions[:, None] * base ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)

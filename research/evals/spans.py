"""The best spans under two distributions over tokens: of a span's first token, and of its last."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def best_spans(
    start: Float[Array, "B L"], end: Float[Array, "B L"], max_length: int, k: int = 1
) -> tuple[Float[Array, "B {k}"], Int[Array, "B {k}"], Int[Array, "B {k}"]]:
    """The k spans (i, j) of greatest start[i] + end[j], both logits, with 1 <= i <= j < i + max_length.

    Returns scores, the highest first, and the spans' first and last positions; among equal scores the earlier and shorter
    span comes first. Position 0 stands for no answer and is in no span. Logits of -1e30 exclude a position. If there are
    fewer than k spans, the remaining scores are -1e30 or below.
    """
    B, L = start.shape
    longest = min(max_length, L - 1)
    ahead = jnp.pad(end, ((0, 0), (0, longest - 1)), constant_values=-jnp.inf)
    shifted = jnp.stack([ahead[:, d : d + L] for d in range(longest)], axis=-1)  # [B, L, D]: the end d positions later
    sums = (start[:, :, None] + shifted).at[:, 0].set(-jnp.inf).reshape(B, -1)
    count = min(k, sums.shape[1])
    scores, flat = jax.lax.top_k(sums, count)
    scores = jnp.maximum(scores, jnp.finfo(jnp.float32).min)
    first, last = flat // longest, flat // longest + flat % longest
    padding = ((0, 0), (0, k - count))
    scores = jnp.pad(scores, padding, constant_values=jnp.finfo(jnp.float32).min)
    return scores, jnp.pad(first, padding), jnp.pad(last, padding)

"""The best spans under two distributions over tokens: of a span's first token, and of its last."""

import jax
import jax.numpy as jnp


def best_spans(start: jax.Array, end: jax.Array, max_length: int, k: int = 1) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The k spans (i, j) of greatest start[i] + end[j] with 1 <= i <= j < i + max_length: logits f32[B, L] twice.

    Returns scores f32[B, k], the highest first, and the spans' first and last positions, i32[B, k] each; among equal scores
    the earlier and shorter span comes first. Position 0 stands for no answer and is in no span. Logits of -1e30 exclude a
    position. If there are fewer than k spans, the remaining scores are -1e30 or below.
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

"""The best spans under two distributions over tokens, one of a span's first token and one of its last."""

import jax
import jax.numpy as jnp


def best_spans(start: jax.Array, end: jax.Array, max_length: int, k: int = 1) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The k spans (i, j) of greatest start[i] + end[j] with 1 <= i <= j < i + max_length: logits f32[B, L] twice.

    Returns scores f32[B, k], from the greatest, and the spans' first and last places, i32[B, k] each; of equal scores the
    earlier and shorter span comes first. Place 0 stands for no answer and is in no span. Places may be shut out by logits of
    -1e30. Where there are fewer than k spans the rest have scores of -1e30 or below.
    """
    B, L = start.shape
    longest = min(max_length, L - 1)
    ahead = jnp.pad(end, ((0, 0), (0, longest - 1)), constant_values=-jnp.inf)
    shifted = jnp.stack([ahead[:, d : d + L] for d in range(longest)], axis=-1)  # [B, L, D]: the end d places on
    sums = (start[:, :, None] + shifted).at[:, 0].set(-jnp.inf).reshape(B, -1)
    found = min(k, sums.shape[1])
    scores, places = jax.lax.top_k(sums, found)
    scores = jnp.maximum(scores, jnp.finfo(jnp.float32).min)
    first, last = places // longest, places // longest + places % longest
    more = ((0, 0), (0, k - found))
    scores = jnp.pad(scores, more, constant_values=jnp.finfo(jnp.float32).min)
    return scores, jnp.pad(first, more), jnp.pad(last, more)

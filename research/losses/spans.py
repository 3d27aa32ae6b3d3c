"""The loss of an extractive reader, which predicts an answer's first and last token."""

import jax
import jax.numpy as jnp

from research.core.metrics import MetricSums, Terms
from research.losses.classification import negative_log_likelihood, weighted


def span_cross_entropy(
    start: jax.Array, end: jax.Array, first: jax.Array, last: jax.Array, mask: jax.Array | None = None
) -> tuple[Terms, MetricSums]:
    """Negative log-likelihood in nats, the mean of the first token's and the last token's, averaged over rows.

    start, end f32[B, L], logits; first, last i32[B], positions in 0..L-1; mask f32[B]. Seo et al. 2017 (1611.01603), eq. 5,
    which does not halve the sum; Devlin et al. 2019's code does. Returns (terms, {"loss", "accuracy": (sum, weight)}); a
    row is accurate if both positions are the argmax.
    """
    loss = (negative_log_likelihood(start, first) + negative_log_likelihood(end, last)) / 2
    correct = jnp.logical_and(start.argmax(-1) == first, end.argmax(-1) == last)
    return weighted({"loss": loss, "accuracy": correct}, mask)

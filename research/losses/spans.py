"""The loss of a reader that points at an answer's first and last token."""

import jax
import jax.numpy as jnp

from research.core.metrics import MetricSums, Terms
from research.losses.classification import negative_log_likelihood, weighted


def span_cross_entropy(
    start: jax.Array, end: jax.Array, first: jax.Array, last: jax.Array, mask: jax.Array | None = None
) -> tuple[Terms, MetricSums]:
    """Mean over rows of half the negative log-likelihood, in nats, of the first and of the last place together.

    start, end f32[B, L], logits; first, last i32[B]; mask f32[B]. Seo et al. 2017 (1611.01603), eq. 5, which does not halve
    the sum; Devlin et al. 2019's code does. Returns (terms, {"loss", "accuracy": (sum, weight)}), where accuracy is of both
    places at once, each the likeliest.
    """
    loss = (negative_log_likelihood(start, first) + negative_log_likelihood(end, last)) / 2
    right = jnp.logical_and(start.argmax(-1) == first, end.argmax(-1) == last)
    return weighted({"loss": loss, "accuracy": right}, mask)

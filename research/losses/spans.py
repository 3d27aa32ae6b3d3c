"""The loss of an extractive reader, which predicts an answer's first and last token."""

import jax.numpy as jnp
from jaxtyping import Float, Int

from research.core.arrays import Array
from research.core.metrics import MetricSums, Terms
from research.losses.classification import negative_log_likelihood, weighted


def span_cross_entropy(
    start: Float[Array, "B L"],
    end: Float[Array, "B L"],
    first: Int[Array, " B"],
    last: Int[Array, " B"],
    mask: Float[Array, " B"] | None = None,
) -> tuple[Terms, MetricSums]:
    """Negative log-likelihood in nats, the mean of the first token's and the last token's, averaged over rows.

    start, end: logits; first, last: positions in 0..L-1. Seo et al. 2017 (1611.01603), eq. 5,
    which does not halve the sum; Devlin et al. 2019's code does. Returns (terms, {"loss", "accuracy": (sum, weight)}); a
    row is accurate if both positions are the argmax.
    """
    loss = (negative_log_likelihood(start, first) + negative_log_likelihood(end, last)) / 2
    correct = jnp.logical_and(start.argmax(-1) == first, end.argmax(-1) == last)
    return weighted({"loss": loss, "accuracy": correct}, mask)

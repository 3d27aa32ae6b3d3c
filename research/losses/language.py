"""Token cross-entropy."""

import jax
import jax.numpy as jnp

from research.core.metrics import MetricSums, Terms
from research.losses import chunked
from research.losses.classification import negative_log_likelihood, weighted
from research.nn.logits import DeferredLogits


def cross_entropy(
    logits: jax.Array | DeferredLogits,
    targets: jax.Array,
    mask: jax.Array | None = None,
    smoothing: float = 0.0,
) -> tuple[Terms, MetricSums]:
    """Mean negative log-likelihood of the targets in nats for each token that `mask` keeps.

    logits f32[B, T, V] (computed in f32 whatever their dtype); targets i32[B, T], inside 0..V-1
    under the mask too; mask f32[B, T] or f32[B]. Returns (terms, {"loss", "accuracy": (sum,
    weight)}). Label smoothing (Szegedy et al. 2016, 1512.00567) changes the terms and not the
    metric, so that exp(loss) stays the perplexity. No array of one-hot targets is made.

    `DeferredLogits` of more than `chunked.CHUNK_BYTES` on a device are computed in chunks, and never held whole.
    """
    if isinstance(logits, DeferredLogits):
        if logits.device_bytes > chunked.CHUNK_BYTES:
            return chunked.cross_entropy(logits, targets, mask, smoothing)
        logits = logits.array()
    loss = negative_log_likelihood(logits, targets)
    terms, metrics = weighted({"loss": loss, "accuracy": logits.argmax(-1) == targets}, mask)
    if smoothing:
        uniform = jax.nn.logsumexp(logits.astype(jnp.float32), -1) - logits.mean(-1, dtype=jnp.float32)
        to_uniform = weighted({"loss": uniform}, mask)[1]["loss"]
        terms = {"loss": (*metrics["loss"], 1 - smoothing), "uniform": (*to_uniform, smoothing)}
    return terms, metrics

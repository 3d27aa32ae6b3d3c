"""Token cross-entropy."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from research.core.arrays import Array
from research.core.metrics import MetricSums, Terms
from research.losses import chunked
from research.losses.classification import negative_log_likelihood, weighted
from research.nn.logits import DeferredLogits


def cross_entropy(
    logits: Float[Array, "B T V"] | DeferredLogits,
    targets: Int[Array, "B T"],
    mask: Float[Array, "B T"] | Float[Array, " B"] | None = None,
    smoothing: float = 0.0,
) -> tuple[Terms, MetricSums]:
    """Negative log-likelihood of the targets in nats, averaged over tokens weighted by `mask`, and top-1 accuracy.

    Computed in f32. Targets are in 0..V-1, masked ones too; `mask` None is all ones. Returns (terms, {"loss", "accuracy":
    (sum, weight)}). Label smoothing (Szegedy et al. 2016, 1512.00567) changes the terms and not the metric, so exp(loss)
    remains the perplexity. One-hot targets are never materialised. `DeferredLogits` that exceed `chunked.CHUNK_BYTES` on a
    device are computed in chunks.

    >>> terms, metrics = cross_entropy(jnp.zeros((1, 2, 8)), jnp.array([[0, 5]]), mask=jnp.array([[1.0, 0.0]]))
    >>> [round(float(x), 4) for x in metrics["loss"]]  # ln 8, for the token that counts
    [2.0794, 1.0]
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

"""Softmax cross-entropy for one label out of N."""

import jax
import jax.numpy as jnp

from research.core.metrics import MetricSums, Terms, pair


def cross_entropy(logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None) -> tuple[Terms, MetricSums]:
    """Cross-entropy -sum(p log q) in nats, averaged over examples weighted by `mask`, and top-1 accuracy.

    logits f[..., N], computed in f32; labels i32[...], or soft f32[..., N], whose argmax is then the class for the accuracy;
    mask f32[...], or of the leading axes alone, as f32[B]. Returns (terms, {"loss", "accuracy": (sum, weight)}).
    """
    if labels.ndim == logits.ndim:
        loss = -jnp.sum(labels * jax.nn.log_softmax(logits.astype(jnp.float32)), -1)
        labels = labels.argmax(-1)
    else:
        loss = negative_log_likelihood(logits, labels)
    return weighted({"loss": loss, "accuracy": logits.argmax(-1) == labels}, mask)


def negative_log_likelihood(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log softmax(logits)[label]: logits f[..., N], labels i32[...] -> f32[...], in nats."""
    label_logits = jnp.take_along_axis(logits, labels[..., None], -1)[..., 0].astype(jnp.float32)
    return jax.nn.logsumexp(logits.astype(jnp.float32), -1) - label_logits


def weighted(values: dict[str, jax.Array], mask: jax.Array | None = None) -> tuple[Terms, MetricSums]:
    """Values f[...] by name -> (the objective's term, the mean of "loss"; {name: (sum, weight)}), weighted by `mask`.

    The mask may lack trailing axes: f32[B] weights rows. If it is all zero, the mean is 0. Raises UserError for a mask whose
    shape is not how that of the values begins.

    >>> terms, metrics = weighted({"loss": jnp.array([1.0, 3.0, 8.0])}, mask=jnp.array([1.0, 1.0, 0.0]))
    >>> [float(x) for x in terms["loss"]]  # sum, weight, coefficient
    [4.0, 2.0, 1.0]
    """
    metrics = {name: pair(value, mask) for name, value in values.items()}
    return {"loss": (*metrics["loss"], 1.0)}, metrics

"""Softmax cross-entropy for one label out of N."""

import jax
import jax.numpy as jnp

from research.core.metrics import MetricSums, Terms, pair


def cross_entropy(logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None) -> tuple[Terms, MetricSums]:
    """Mean of -sum(p log q) in nats over examples, weighted by `mask`, and accuracy.

    logits f32[..., N] (computed in f32 whatever their dtype); labels i32[...] or soft f32[..., N]
    (accuracy is then against the likeliest class); mask f32[...], or of the leading axes alone, as
    f32[B]. Returns (terms, {"loss", "accuracy": (sum, weight)}).
    """
    if labels.ndim == logits.ndim:
        loss = -jnp.sum(labels * jax.nn.log_softmax(logits.astype(jnp.float32)), -1)
        labels = labels.argmax(-1)
    else:
        loss = negative_log_likelihood(logits, labels)
    return weighted({"loss": loss, "accuracy": logits.argmax(-1) == labels}, mask)


def negative_log_likelihood(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log softmax(logits)[label]: logits [..., N], labels i32[...] -> f32[...], in nats."""
    chosen = jnp.take_along_axis(logits, labels[..., None], -1)[..., 0].astype(jnp.float32)
    return jax.nn.logsumexp(logits.astype(jnp.float32), -1) - chosen


def weighted(values: dict[str, jax.Array], mask: jax.Array | None = None) -> tuple[Terms, MetricSums]:
    """Arrays of one shape -> (the term whose mean is that of "loss", {name: (sum, weight)}), weighted by `mask`.

    The mask may lack trailing axes: f32[B] weights whole rows. All zero, it makes the mean 0.
    """
    if mask is not None:
        mask = mask.reshape(mask.shape + (1,) * (values["loss"].ndim - mask.ndim))
    metrics = {name: pair(value, mask) for name, value in values.items()}
    return {"loss": (*metrics["loss"], 1.0)}, metrics

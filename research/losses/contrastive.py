"""Contrastive losses with in-batch negatives: each row's own partner against the other rows of the batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, Int

from research.core.arrays import Array
from research.core.metrics import MetricSums, Terms
from research.losses.classification import negative_log_likelihood, weighted


def in_batch_negatives(
    queries: Float[Array, "B D"],
    items: Float[Array, "B D"],
    numbers: Int[Array, " B"],
    mask: Float[Array, " B"] | None = None,
) -> tuple[Terms, MetricSums]:
    """Mean negative log-likelihood in nats of each query's own item, under a softmax of inner products with the batch's items.

    `numbers` identify the items: another row with the same item is not a negative, and is left out of the softmax. A row
    whose mask is 0 is neither query nor item. Karpukhin et al. 2020 (2004.04906), eq. 2, with duplicate items masked.
    Returns (terms, {"loss", "accuracy": (sum, weight)}). The batch is the global one on any mesh; a microbatch has fewer
    negatives, and so another loss.
    """
    scores = jnp.einsum("id,jd->ij", queries, items, preferred_element_type=jnp.float32)
    diagonal = jnp.eye(len(scores), dtype=bool)
    excluded = (numbers[:, None] == numbers[None, :]) & ~diagonal
    if mask is not None:
        excluded |= (mask[None, :] == 0) & ~diagonal
    scores = jnp.where(excluded, jnp.finfo(scores.dtype).min, scores)
    labels = jnp.arange(len(scores))
    loss = negative_log_likelihood(scores, labels)
    return weighted({"loss": loss, "accuracy": scores.argmax(-1) == labels}, mask)


def nt_xent(
    first: Float[Array, "B D"],
    second: Float[Array, "B D"],
    temperature: float,
    mask: Float[Array, " B"] | None = None,
) -> tuple[Terms, MetricSums]:
    """The normalised, temperature-scaled cross-entropy of two views of each picture (Chen et al. 2020, 2002.05709, eq. 1).

    Each of the 2 B views is to find its partner, by the cosine, among the 2 B - 1 others: mean nats a view, and the share that
    finds it. A row whose mask is 0 takes no part. Returns (terms, {"loss", "contrastive_accuracy": (sum, weight)}). The batch
    is the global one on any mesh.
    """
    a, b = _unit(first), _unit(second)
    other = ~jnp.eye(len(a), dtype=bool)
    absent = jnp.zeros(len(a), bool) if mask is None else mask == 0
    labels, losses, right = jnp.arange(len(a)), [], []
    for own, partner in ((a, b), (b, a)):
        across, within = own @ partner.T / temperature, own @ own.T / temperature
        lowest = jnp.finfo(across.dtype).min
        across = jnp.where(absent & other, lowest, across)
        within = jnp.where(absent | ~other, lowest, within)
        scores = jnp.concatenate([across, within], axis=-1)
        losses.append(negative_log_likelihood(scores, labels))
        right.append(scores.argmax(-1) == labels)
    return weighted({"loss": sum(losses) / 2, "contrastive_accuracy": sum(right) / 2}, mask)


def _unit(x: Float[Array, "B D"]) -> Float32[Array, "B D"]:
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)

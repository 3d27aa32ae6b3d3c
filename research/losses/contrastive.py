"""Contrastive loss with in-batch negatives: each query's own item against the items of the other rows."""

import jax.numpy as jnp
from jaxtyping import Float, Int

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

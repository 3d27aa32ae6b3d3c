"""In-batch negatives: each query's own item against the items of the other rows."""

import jax
import jax.numpy as jnp

from research.core.metrics import MetricSums, Terms
from research.losses.classification import negative_log_likelihood, weighted


def in_batch_negatives(
    queries: jax.Array, items: jax.Array, numbers: jax.Array, mask: jax.Array | None = None
) -> tuple[Terms, MetricSums]:
    """Mean negative log-likelihood, in nats, of each query's own item under a softmax of inner products over the batch's.

    queries, items f32[B, D]; numbers i32[B] tell the items apart: another row's item of the same number is no negative and
    takes no part. mask f32[B]: a row of 0 is neither query nor item. Karpukhin et al. 2020 (2004.04906), eq. 2, with the
    rows of one item masked. Returns (terms, {"loss", "accuracy": (sum, weight)}). The batch is the global one on any
    mesh; with `optim.accumulate` it is the microbatch.
    """
    scores = jnp.einsum("id,jd->ij", queries, items, preferred_element_type=jnp.float32)
    own = jnp.eye(len(scores), dtype=bool)
    out = (numbers[:, None] == numbers[None, :]) & ~own
    if mask is not None:
        out |= (mask[None, :] == 0) & ~own
    scores = jnp.where(out, jnp.finfo(scores.dtype).min, scores)
    labels = jnp.arange(len(scores))
    loss = negative_log_likelihood(scores, labels)
    return weighted({"loss": loss, "accuracy": scores.argmax(-1) == labels}, mask)

"""Softmax cross-entropy for one label out of N."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int, Shaped

from research.core.arrays import Array
from research.core.metrics import MetricSums, Terms, broadcast_weights, pair


def cross_entropy(
    logits: Float[Array, "*batch N"],
    labels: Int[Array, "*batch"] | Float[Array, "*batch N"],
    mask: Float[Array, "..."] | None = None,
    class_weights: Float[Array, " N"] | None = None,
) -> tuple[Terms, MetricSums]:
    """Cross-entropy -sum(p log q) in nats, averaged over examples weighted by `mask`, and top-1 accuracy.

    Computed in f32. The argmax of soft labels is the class for the accuracy. The mask may lack trailing axes: f32[B] weights
    rows. `class_weights` weigh each example of the terms' mean by its label, as torch's CrossEntropyLoss(weight) does; the
    metrics have no such weights. Returns (terms, {"loss", "accuracy": (sum, weight)}).
    """
    if labels.ndim == logits.ndim:
        loss = -jnp.sum(labels * jax.nn.log_softmax(logits.astype(jnp.float32)), -1)
        labels = labels.argmax(-1)
    else:
        loss = negative_log_likelihood(logits, labels)
    terms, metrics = weighted({"loss": loss, "accuracy": logits.argmax(-1) == labels}, mask)
    if class_weights is not None:
        weights = class_weights[labels]
        if mask is not None:
            weights *= broadcast_weights(mask, weights.shape)
        terms, _ = weighted({"loss": loss}, weights)
    return terms, metrics


def balanced_weights(labels: Int[np.ndarray, " n"], num_classes: int) -> Float32[np.ndarray, " N"]:
    """n / (N * the number of a class's examples) for each class, scikit-learn's "balanced"; 0 for a class without examples.

    >>> balanced_weights(np.array([0, 0, 0, 1]), num_classes=2).tolist()  # 4 / (2 * 3), 4 / (2 * 1)
    [0.6666666865348816, 2.0]
    """
    counts = np.bincount(labels, minlength=num_classes)
    shares = np.divide(len(labels), num_classes * counts, out=np.zeros(num_classes), where=counts > 0)
    return shares.astype(np.float32)


def negative_log_likelihood(logits: Float[Array, "*batch N"], labels: Int[Array, "*batch"]) -> Float32[Array, "*batch"]:
    """-log softmax(logits)[label] in nats, computed in f32."""
    label_logits = jnp.take_along_axis(logits, labels[..., None], -1)[..., 0].astype(jnp.float32)
    return jax.nn.logsumexp(logits.astype(jnp.float32), -1) - label_logits


def weighted(
    values: dict[str, Shaped[Array, "*batch"]], mask: Float[Array, "..."] | None = None
) -> tuple[Terms, MetricSums]:
    """Values by name, f32 or bool -> (the objective's term, the mean of "loss"; {name: (sum, weight)}), weighted by `mask`.

    The mask may lack trailing axes: f32[B] weights rows. If it is all zero, the mean is 0. Raises UserError for a mask whose
    shape is not how that of the values begins.

    >>> terms, metrics = weighted({"loss": jnp.array([1.0, 3.0, 8.0])}, mask=jnp.array([1.0, 1.0, 0.0]))
    >>> [float(x) for x in terms["loss"]]  # sum, weight, coefficient
    [4.0, 2.0, 1.0]
    """
    metrics = {name: pair(value, mask) for name, value in values.items()}
    return {"loss": (*metrics["loss"], 1.0)}, metrics

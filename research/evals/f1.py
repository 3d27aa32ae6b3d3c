"""F1 of each class and their mean, as sums over batches: `by_class` is for `batch_metrics`, `add_macro` for `split_metrics`.

On the host, from whole outputs: research/evals/classification.py.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from research.core.arrays import Array
from research.core.metrics import MetricSums
from research.util.errors import UserError


def by_class(
    predictions: Int[Array, "*batch"],
    labels: Int[Array, "*batch"],
    mask: Float[Array, "*batch"],
    classes: Sequence[str],
) -> MetricSums:
    """{"f1/CLASS": (2 hits, predicted + true)} of classes 0..N-1 by name, over what `mask` counts.

    A name's spaces become underscores. Raises UserError if that makes two classes one.

    >>> sums = by_class(jnp.array([0, 0, 1]), jnp.array([0, 1, 1]), jnp.ones(3), ("low", "very high"))
    >>> {name: (float(a), float(b)) for name, (a, b) in sums.items()}
    {'f1/low': (2.0, 3.0), 'f1/very_high': (2.0, 3.0)}
    """
    f1 = {}
    for i, name in enumerate(classes):
        true, predicted = (labels == i) * mask, (predictions == i) * mask
        f1[f"f1/{name.replace(' ', '_')}"] = 2 * jnp.sum(true * predicted), jnp.sum(true) + jnp.sum(predicted)
    if len(f1) < len(classes):
        raise UserError(f"two classes have one name in the log, {', '.join(f1)}: rename one of {', '.join(classes)}")
    return f1


def add_macro(means: dict[str, float]) -> dict[str, float]:
    """Adds "macro_f1", the mean over classes. The F1 of a class that neither occurs nor is predicted is 0."""
    f1 = {name: 0.0 if np.isnan(value) else value for name, value in means.items() if name.startswith("f1/")}
    return {**means, **f1, "macro_f1": float(np.mean(list(f1.values())))}

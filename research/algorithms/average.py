"""The mean of several checkpoints' parameters: Vaswani et al. 2017 (1706.03762), section 6.1, who take the last five."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from research.util.errors import UserError


def mean(trees: Iterable[Any]) -> Any:
    """Trees of arrays of one structure, read one by one -> the mean of each leaf, summed in f64, in the first one's dtype."""
    total, dtypes, count = None, None, 0
    for tree in trees:
        wide = jax.tree.map(lambda x: np.asarray(x, np.float64), tree)
        if total is None:
            total, dtypes = wide, jax.tree.map(lambda x: np.asarray(x).dtype, tree)
        else:
            total = jax.tree.map(np.add, total, wide)
        count += 1
    if not count:
        raise UserError("there is nothing to average")
    return jax.tree.map(lambda x, dtype: (x / count).astype(dtype), total, dtypes)

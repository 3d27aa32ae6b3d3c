"""Top-k probabilities by name."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

COUNT = 5


def of(probabilities: Any, name: Callable[[int], str]) -> dict[str, float]:
    """f[N] -> {name: probability, rounded to four digits} of the top COUNT, in falling order.

    >>> of([0.25, 0.75], str)
    {'1': 0.75, '0': 0.25}
    """
    p = np.asarray(probabilities)
    return {name(int(i)): round(float(p[i]), 4) for i in np.argsort(-p)[:COUNT]}


def classes(names: Sequence[str], probabilities: Any) -> dict[str, Any]:
    """f[N] -> {"class": the top-1 name, "probabilities": `of` the probabilities}."""
    top = of(probabilities, names.__getitem__)
    return {"class": next(iter(top)), "probabilities": top}


def of_logits(logits: Any, name: Callable[[int], str]) -> dict[str, float]:
    """f[N] -> `of` the softmax, computed in double precision."""
    x = np.asarray(logits, np.float64)
    p = np.exp(x - x.max())
    return of(p / p.sum(), name)

"""The most probable few of many, by name."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

COUNT = 5


def of(probabilities: Any, name: Callable[[int], str]) -> dict[str, float]:
    """f[N] -> {name: probability to four digits} of the COUNT most probable, the most probable first."""
    p = np.asarray(probabilities)
    return {name(int(i)): round(float(p[i]), 4) for i in np.argsort(-p)[:COUNT]}


def classes(names: Sequence[str], probabilities: Any) -> dict[str, Any]:
    """f[N] -> {"class": the top-1 name, "probabilities": `of` them}."""
    best = of(probabilities, names.__getitem__)
    return {"class": next(iter(best)), "probabilities": best}


def of_logits(logits: Any, name: Callable[[int], str]) -> dict[str, float]:
    """f[N] -> `of` their softmax, taken in double precision."""
    x = np.asarray(logits, np.float64)
    p = np.exp(x - x.max())
    return of(p / p.sum(), name)

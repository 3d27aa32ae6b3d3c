"""Losses as scalars, for comparison with other libraries'."""

import functools

from research.core.metrics import objective


def as_scalar(loss):
    """`loss(...) -> (terms, metrics)` as one that returns (scalar, metrics)."""

    @functools.wraps(loss)
    def scalar(*args, **kwargs):
        terms, metrics = loss(*args, **kwargs)
        return objective(terms), metrics

    return scalar

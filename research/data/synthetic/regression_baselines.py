"""Baselines of in-context regression: predictors of y_i from the pairs before it, in NumPy.

Each takes x f[B, n, d] and y f[B, n] and returns f64[B, n]: column i uses only the first i pairs, and is 0 for i = 0.
"""

from collections.abc import Callable

import numpy as np


def least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Minimum-norm least squares.

    >>> x, y = np.array([[[1.0], [2.0], [3.0]]]), np.array([[2.0, 4.0, 6.0]])  # y = 2 x
    >>> least_squares(x, y).round(6).tolist()
    [[0.0, 4.0, 6.0]]
    """
    return _by_weights(x, y, lambda x, y: np.einsum("bdi,bi->bd", np.linalg.pinv(x), y))


def ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """Ridge regression, squared error + penalty |w|^2: Bayes-optimal if w ~ N(0, I) and the noise has variance `penalty`."""

    def weights(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        gram = np.einsum("bid,bie->bde", x, x) + penalty * np.eye(x.shape[-1])
        return np.linalg.solve(gram, np.einsum("bid,bi->bd", x, y)[..., None])[..., 0]

    return _by_weights(x, y, weights)


def averaging(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """w estimated as the mean of y x: unbiased, because x ~ N(0, I)."""
    return _by_weights(x, y, lambda x, y: np.einsum("bid,bi->bd", x, y) / y.shape[1])


def nearest_neighbours(x: np.ndarray, y: np.ndarray, count: int = 3) -> np.ndarray:
    """The mean y of the `count` nearest x, or of all if there are fewer."""
    out = np.zeros(y.shape)
    for i in range(1, y.shape[1]):
        distance = ((x[:, :i] - x[:, i : i + 1]).astype(np.float64) ** 2).sum(-1)
        neighbours = np.argsort(distance, axis=1, kind="stable")[:, :count]
        out[:, i] = np.take_along_axis(y[:, :i], neighbours, 1).mean(1, dtype=np.float64)
    return out


def _by_weights(x: np.ndarray, y: np.ndarray, weights: Callable) -> np.ndarray:
    x, y = x.astype(np.float64), y.astype(np.float64)
    out = np.zeros(y.shape)
    for i in range(1, y.shape[1]):
        out[:, i] = np.einsum("bd,bd->b", weights(x[:, :i], y[:, :i]), x[:, i])
    return out

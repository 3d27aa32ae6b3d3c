"""Baselines of a learner of linear functions: predictors of y_i from the pairs before it, in numpy.

Each takes x f[B, n, d] and y f[B, n] and gives f64[B, n], column i from the first i pairs alone; 0 from none.
"""

from collections.abc import Callable

import numpy as np


def least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The function of least squared error, and of least norm among equals."""
    return _by_weights(x, y, lambda x, y: np.einsum("bdi,bi->bd", np.linalg.pinv(x), y))


def ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """Least squared error plus penalty |w|^2: the best predictor where w ~ N(0, I) and the noise's variance is `penalty`."""

    def weights(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        gram = np.einsum("bid,bie->bde", x, x) + penalty * np.eye(x.shape[-1])
        return np.linalg.solve(gram, np.einsum("bid,bi->bd", x, y)[..., None])[..., 0]

    return _by_weights(x, y, weights)


def averaging(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """w as the mean of y x: right in expectation, as x ~ N(0, I)."""
    return _by_weights(x, y, lambda x, y: np.einsum("bid,bi->bd", x, y) / y.shape[1])


def nearest_neighbours(x: np.ndarray, y: np.ndarray, count: int = 3) -> np.ndarray:
    """The mean of the y of the `count` nearest x, of as many as there are."""
    out = np.zeros(y.shape)
    for i in range(1, y.shape[1]):
        distance = ((x[:, :i] - x[:, i : i + 1]).astype(np.float64) ** 2).sum(-1)
        near = np.argsort(distance, axis=1, kind="stable")[:, :count]
        out[:, i] = np.take_along_axis(y[:, :i], near, 1).mean(1, dtype=np.float64)
    return out


def _by_weights(x: np.ndarray, y: np.ndarray, weights: Callable) -> np.ndarray:
    x, y = x.astype(np.float64), y.astype(np.float64)
    out = np.zeros(y.shape)
    for i in range(1, y.shape[1]):
        out[:, i] = np.einsum("bd,bd->b", weights(x[:, :i], y[:, :i]), x[:, i])
    return out

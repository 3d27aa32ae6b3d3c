"""Distances between a window of requests and a reference: PSI, KS and MMD, each of two means of feature vectors.

Every statistic here is a function of mean features. A window's mean is a difference of two running sums, so all windows of a
stream are computed at once and their cost does not depend on their size.
"""

import numpy as np


def psi(counts: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Population stability index, sum of (p - q) ln(p / q): symmetrised Kullback-Leibler divergence in nats.

    counts f[..., K] of a window and reference f[K] -> f[...]. Half a count is added to each category (Krichevsky-Trofimov), so
    that one which never occurred does not make it infinite.

    >>> round(float(psi(np.array([300.0, 700.0]), np.array([500.0, 500.0]))), 3)
    0.169
    """
    p, q = _shares(counts), _shares(reference)
    return np.sum((p - q) * np.log(p / q), -1)


def _shares(counts: np.ndarray) -> np.ndarray:
    return (counts + 0.5) / (counts.sum(-1, keepdims=True) + 0.5 * counts.shape[-1])


def ks(mean: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Kolmogorov-Smirnov: the largest difference of two distribution functions, of values that `below` made features of.

    mean f[..., K] and reference f[K], the shares of values up to each edge -> f[...] in 0..1.
    """
    return np.abs(mean - reference).max(-1)


def edges(values: np.ndarray, most: int) -> np.ndarray:
    """At most `most` quantiles of values f[N], at which `ks` compares: f[K], increasing."""
    known = values[~np.isnan(values)]
    return np.unique(np.quantile(known, np.arange(1, most + 1) / (most + 1))) if len(known) else np.zeros(1)


def below(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values f[N], edges f[K] -> f32[N, K]: 1 where value <= edge. A missing value (NaN) counts as above every edge."""
    return (values[:, None] <= at).astype(np.float32)


def mmd(mean: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Maximum mean discrepancy (Gretton et al. 2012, JMLR 13) of points that `fourier` made features of.

    mean f[..., P] and reference f[P] -> f[...], at least 0; not the unbiased estimate.
    """
    return np.linalg.norm(mean - reference, axis=-1)


def frequencies(points: np.ndarray, count: int) -> np.ndarray:
    """Random frequencies f64[D, count] of the Gaussian kernel exp(-|x - y|^2 / 2 s^2) (Rahimi & Recht 2007).

    s is the median distance between points f[N, D], of 500 at most. The draw is always the same.
    """
    few = points[:500].astype(np.float64)
    squares = np.sum(few**2, -1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * few @ few.T, 0))[np.triu_indices(len(few), 1)]
    width = float(np.median(distances)) if distances.size else 0.0
    return np.random.default_rng(0).standard_normal((points.shape[1], count)) / (width or 1.0)


def fourier(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Points f[N, D], frequencies f[D, P] -> f32[N, 2 P], whose inner products approximate the kernel."""
    angles = points @ at
    return (np.concatenate([np.cos(angles), np.sin(angles)], -1) / np.sqrt(at.shape[1])).astype(np.float32)

"""Quality and diversity of samples: mode coverage, Fréchet distance, precision and recall, inception score. All f64."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float64

from research.util.errors import UserError

BLOCK = 1_000  # rows of a matrix of distances that are held at a time


def mode_coverage(samples: Float[np.ndarray, "S D"], centres: Float[np.ndarray, "M D"], std: float) -> dict[str, float]:
    """Coverage of a mixture of isotropic Gaussians, of standard deviation `std`, by samples.

    A sample is of high quality if it lies within 3 `std` of its nearest centre; a mode counts if it
    has such a sample. `reverse_kl` (nats) is KL(P || uniform), P the shares of the modes among
    the high-quality samples; NaN if there are none. After the code of Lin et al. 2018 (PacGAN,
    1712.04086, table 1), which draws 2,500 samples.
    """
    offsets = np.asarray(samples, np.float64)[:, None] - np.asarray(centres, np.float64)
    distances = np.linalg.norm(offsets, axis=-1)
    good = distances.min(1) < 3 * std
    counts = np.bincount(distances.argmin(1)[good], minlength=len(centres))
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum()
    return {
        "modes": float((counts > 0).sum()),
        "high_quality": float(good.mean()),
        "reverse_kl": float(_plogp(shares).sum() + np.log(len(centres))),
    }


def moments(features: Float[np.ndarray, "S D"]) -> tuple[Float64[np.ndarray, " D"], Float64[np.ndarray, "D D"]]:
    """Mean and unbiased covariance of features. Raises UserError if S < 2."""
    features = np.asarray(features, np.float64)
    if len(features) < 2:
        raise UserError(f"a covariance needs 2 examples or more; got {len(features)}")
    return features.mean(0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet_distance(
    mean_a: Float[np.ndarray, " D"],
    cov_a: Float[np.ndarray, "D D"],
    mean_b: Float[np.ndarray, " D"],
    cov_b: Float[np.ndarray, "D D"],
) -> float:
    """Squared Fréchet distance of two Gaussians (Heusel et al. 2017, 1706.08500, eq. 6).

    The trace of (A B)^1/2 is that of (A^1/2 B A^1/2)^1/2, whose argument is symmetric, so that
    covariances of deficient rank (too few samples) need neither jitter nor complex numbers.

    >>> frechet_distance(np.zeros(1), np.eye(1), np.ones(1), 4 * np.eye(1))  # (0 - 1)^2 + (1 - 2)^2
    2.0
    """
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ cov_b @ root)
    shift = np.square(np.asarray(mean_a) - mean_b).sum()
    spread = np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(np.maximum(cross, 0)).sum()
    return float(shift + spread)


def precision_recall(
    real: Float[np.ndarray, "R D"], generated: Float[np.ndarray, "S D"], neighbours: int = 3
) -> dict[str, float]:
    """Improved precision and recall of generated features (Kynkäänniemi et al. 2019, 1904.06991, equations 1 and 2).

    A set's manifold is the union of balls about its points, each as far as its `neighbours`-th nearest other point. `precision`
    is the share of generated points in the real ones' manifold, `recall` that of real points in the generated ones'. Both
    depend on how many points there are: compare values of the same R and S. Raises UserError if a set has no more than
    `neighbours` points. Memory is that of BLOCK rows of distances.

    >>> line = np.arange(4.0)[:, None]  # balls of radius 1 about 0, 1, 2, 3
    >>> precision_recall(line, np.array([[0.75], [1.0], [9.0], [9.25]]), neighbours=1)
    {'precision': 0.5, 'recall': 0.25}
    """
    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    for points in (real, generated):
        if len(points) <= neighbours:
            raise UserError(f"{len(points)} points have no neighbour number {neighbours}: use more of them")
    return {
        "precision": _covered(generated, real, neighbours),
        "recall": _covered(real, generated, neighbours),
    }


def _covered(points: Float64[np.ndarray, "P D"], centres: Float64[np.ndarray, "M D"], neighbours: int) -> float:
    """The share of points in the manifold of the centres."""
    # A point is its own nearest, at distance 0.
    radii = np.concatenate(
        [np.partition(rows, neighbours, axis=1)[:, neighbours] for rows in _squares(centres, centres)]
    )
    return float(np.concatenate([(rows <= radii).any(1) for rows in _squares(points, centres)]).mean())


def _squares(a: Float64[np.ndarray, "P D"], b: Float64[np.ndarray, "M D"]) -> Iterator[Float64[np.ndarray, "_ M"]]:
    """Squared distances of rows of `a` from those of `b`, BLOCK rows at a time."""
    lengths = np.square(b).sum(1)
    for start in range(0, len(a), BLOCK):
        rows = a[start : start + BLOCK]
        yield np.maximum(np.square(rows).sum(1)[:, None] - 2 * rows @ b.T + lengths, 0)


def inception_score(probabilities: Float[np.ndarray, "S N"], splits: int = 10) -> tuple[float, float]:
    """exp E KL(p(y|x) || p(y)) from class probabilities (Salimans et al. 2016, 1606.03498).

    Returns the mean and standard deviation over `splits` consecutive parts, as the authors do;
    raises UserError if there are fewer samples than parts.
    """
    if not 0 < splits <= len(probabilities):
        raise UserError(f"splits is {splits}; use 1 to {len(probabilities)}, the number of samples")
    parts = np.array_split(np.asarray(probabilities, np.float64), splits)
    scores = [np.exp(_plogp(p).sum(1).mean() - _plogp(p.mean(0)).sum()) for p in parts]
    return float(np.mean(scores)), float(np.std(scores))


def _plogp(p: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """p log p, with 0 log 0 = 0."""
    return p * np.log(np.where(p == 0, 1, p))

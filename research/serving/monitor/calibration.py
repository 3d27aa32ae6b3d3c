"""Limits for all signals and windows together, from streams simulated from the reference.

A stream of 10,000 stationary requests is drawn from a population that is itself uncertain: the reference is a sample of N rows.
Its rows get weights of a Dirichlet distribution (the Bayesian bootstrap, Rubin 1981), with parameter 1/2 in place of 1, which
doubles the variance that N rows have: fresh data may differ from held-out data as much as another N rows would. One row more
stands for what the reference has not seen. Each statistic's maximum over a stream is put on a common scale, on which one level,
a quantile of the largest of them all, is every limit. The promise is thereby of the family: all signals, windows and requests.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from research.serving.monitor.detector import Detector

REQUESTS = 10_000  # of a stream
TARGET = 0.005  # of the streams have an alarm: half of the promised 1 in 100, since the scale is itself estimated
STREAMS = 399
CONCENTRATION = 0.5


def calibrate(detector: Detector, streams: int = STREAMS, seed: int = 0) -> np.ndarray:
    """Limits f64[W, J]: a statistic above its own is an alarm. Of stationary streams a share TARGET is expected to have any.

    `streams` are simulated: of n of them, another one exceeds the k-th largest with probability k / (n + 1).
    """
    simulated = stationary(detector, np.random.default_rng(seed))
    highest = np.stack([statistics.max(0) for statistics in itertools.islice(simulated, streams)])
    center, scale = highest.mean(0), np.maximum(highest.std(0), 1e-3)
    family = np.sort(((highest - center) / scale).max((1, 2)))
    return center + scale * family[-max(1, int(TARGET * (streams + 1)))]


def stationary(detector: Detector, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The statistics f64[T, W, J] of one stream after another, each from a population that the reference may be a sample of."""
    population = np.concatenate([detector.features, detector.features[:1]])
    while True:
        population[-1] = detector.novel(rng)
        weights = rng.gamma(CONCENTRATION, size=len(population))
        rows = rng.choice(len(population), REQUESTS, p=weights / weights.sum())
        yield detector.statistics(population, rows)

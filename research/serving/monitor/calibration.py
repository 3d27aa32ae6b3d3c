"""One threshold for all signals and windows together, from streams simulated from the reference.

A stream of 10,000 stationary requests is drawn from a population that is itself uncertain: the reference is a sample of N rows.
Its rows get weights of a Dirichlet distribution (the Bayesian bootstrap, Rubin 1981), with parameter 1/2 in place of 1, which
doubles the variance that N rows have: fresh data may differ from held-out data as much as another N rows would. One row more
stands for what the reference has not seen. Each statistic's maximum over a stream is put on a common scale, and the threshold is
the quantile of the largest of them all. The promise is thereby of the family: all signals, all windows, all 10,000 requests.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from research.serving.monitor.detector import Detector

REQUESTS = 10_000  # of a stream
TARGET = (
    0.005  # of the streams have an alarm: half of the promised 1 in 100, since the common scale is itself estimated
)
STREAMS = 399
CONCENTRATION = 0.5


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """A statistic's score is (statistic - center) / scale, f64[W, J] both; a score above `level` is an alarm."""

    center: np.ndarray
    scale: np.ndarray
    level: float

    def scores(self, statistics: np.ndarray) -> np.ndarray:
        """f[..., W, J] -> the same, on the common scale."""
        return (statistics - self.center) / self.scale

    def alarms(self, statistics: np.ndarray) -> np.ndarray:
        """f[..., W, J] -> bool[..., W, J]."""
        return self.scores(statistics) > self.level


def calibrate(detector: Detector, streams: int = STREAMS, seed: int = 0) -> Thresholds:
    """Simulates `streams` stationary streams; of another one, a share TARGET is expected to have an alarm."""
    simulated = stationary(detector, np.random.default_rng(seed))
    highest = np.stack([statistics.max(0) for statistics in itertools.islice(simulated, streams)])
    center, scale = highest.mean(0), np.maximum(highest.std(0), 1e-3)
    family = np.sort(((highest - center) / scale).max((1, 2)))
    allowed = int(TARGET * (streams + 1))  # another stream exceeds the k-th largest of n with probability k / (n + 1)
    return Thresholds(center, scale, float(family[-max(1, allowed)]))


def stationary(detector: Detector, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The statistics f64[T, W, J] of one stream after another, each from a population that the reference may be a sample of."""
    population = np.concatenate([detector.features, detector.features[:1]])
    while True:
        population[-1] = detector.novel(rng)
        weights = rng.gamma(CONCENTRATION, size=len(population))
        rows = rng.choice(len(population), REQUESTS, p=weights / weights.sum())
        yield detector.statistics(population, rows)

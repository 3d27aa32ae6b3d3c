"""From signals to statistics: every signal in every window of a stream of requests, as a distance from the reference."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import sparse

from research.serving.monitor import drift, signals
from research.serving.monitor.reference import Reference

WINDOWS = (50, 200, 1_000)  # requests
STRIDE = 25  # requests from one evaluation to the next; divides every window
QUANTILES = 20  # at which distribution functions are compared
FREQUENCIES = 32


class Part(NamedTuple):
    """A signal's place among the features, and how two means of them are compared."""

    name: str
    statistic: str  # "ks", "psi" or "mmd"
    columns: slice


class Detector:
    """Compares streams with a reference. `parts` are its J signals in their order, `features` its N rows, f32[N, P]."""

    def __init__(self, reference: Reference):
        self.parts: list[Part] = []
        self._maps: dict[str, tuple] = {}  # what makes a signal's features
        blocks, first = [], 0
        for name, x in sorted(reference.signals.items()):
            statistic = signals.STATISTIC[name.split()[-1]]
            if statistic == "ks":
                self._maps[name] = (drift.edges(x[:, 0], QUANTILES),)
            elif statistic == "mmd":
                center, scale = np.nanmean(x, 0), np.maximum(np.nanstd(x, 0), 1e-6)
                standard = np.nan_to_num((x - center) / scale)
                self._maps[name] = (center, scale, drift.frequencies(standard, FREQUENCIES))
            blocks.append(self._block(name, statistic, x))
            self.parts.append(Part(name, statistic, slice(first, first + blocks[-1].shape[1])))
            first += blocks[-1].shape[1]
        self.features = np.concatenate(blocks, 1)
        self._mean = self.features.mean(0, dtype=np.float64)

    @property
    def names(self) -> list[str]:
        return [part.name for part in self.parts]

    def encode(self, found: Mapping[str, np.ndarray]) -> np.ndarray:
        """Signals {name: f32[B, k]} -> features f32[B, P]."""
        return np.concatenate([self._block(part.name, part.statistic, found[part.name]) for part in self.parts], 1)

    def _block(self, name: str, statistic: str, x: np.ndarray) -> np.ndarray:
        if statistic == "psi":
            return x.astype(np.float32)
        if statistic == "ks":
            return drift.below(x[:, 0], *self._maps[name])
        center, scale, at = self._maps[name]
        return drift.fourier(np.nan_to_num((x - center) / scale), at)

    def statistics(self, features: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """A stream f32[T, P] -> f64[T // STRIDE, W, J]: each signal in the last window of each size, after every STRIDE requests.

        With `rows`, i[T], request t has the features of row `rows[t]`. -inf where a window is not yet full.
        """
        rows = np.arange(len(features)) if rows is None else rows
        steps = len(rows) // STRIDE
        ends, ones = np.arange(steps + 1) * STRIDE, np.ones(steps * STRIDE, np.float32)
        chosen = sparse.csr_array((ones, rows[: steps * STRIDE], ends), shape=(steps, len(features)))
        sums = np.cumsum(
            chosen @ features, 0, dtype=np.float64
        )  # of each STRIDE requests, without a copy of their rows
        totals = np.concatenate([np.zeros((1, sums.shape[1])), sums])
        out = np.full((steps, len(WINDOWS), len(self.parts)), -np.inf)
        for w, window in enumerate(WINDOWS):
            k = window // STRIDE
            sums = totals[k:] - totals[:-k]
            for j, part in enumerate(self.parts):
                out[k - 1 :, w, j] = self._compare(part, sums[:, part.columns], window)
        return out

    def _compare(self, part: Part, sums: np.ndarray, window: int) -> np.ndarray:
        reference = self._mean[part.columns]
        if part.statistic == "psi":
            return drift.psi(sums, reference * len(self.features))
        return {"ks": drift.ks, "mmd": drift.mmd}[part.statistic](sums / window, reference)

    def novel(self, rng: np.random.Generator) -> np.ndarray:
        """The features f32[P] of a request that is unlike every one of the reference: beyond all, or of one random category."""
        row = np.zeros(self.features.shape[1], np.float32)
        for part in self.parts:
            size = part.columns.stop - part.columns.start
            if part.statistic == "ks":
                row[part.columns] = rng.integers(2)
            elif part.statistic == "psi":
                row[part.columns.start + rng.integers(size)] = self._mean[part.columns].sum()
            else:
                angles = rng.uniform(0, 2 * np.pi, size // 2)
                row[part.columns] = np.concatenate([np.cos(angles), np.sin(angles)]) / np.sqrt(size // 2)
        return row

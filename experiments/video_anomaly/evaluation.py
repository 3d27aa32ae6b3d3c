"""Anomalies found in held-out clips: the area under ROC curves, by frame and by clip, and pictures."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.video_anomaly import pictures, scores
from experiments.video_anomaly.data import VideoAnomaly
from research.core.experiment import Evaluated


class Evaluation:
    """The evaluator: of each part `scores.areas`, "roc_PART.png" and "errors_PART.png".

    fn  (variables, {"clip": f32[B, T, Y, X, C]}) -> {"error": f32[B]}
    """

    def __init__(self, fn: Callable, data: VideoAnomaly, batch_size: int):
        self._fn, self._data, self._batch_size = jax.jit(fn), data, batch_size

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        score = partial(self.errors, state.variables, after_batch=after_batch)
        found = {"network": scores.of_clips(self._data, split, score)}
        files = {
            f"roc_{split}.png": partial(self._draw_roc, found, split),
            f"errors_{split}.png": partial(pictures.errors, self._data, split, found["network"]),
        }
        return Evaluated(scores.areas(found["network"], self._data.kinds), files)

    def errors(self, variables: Mapping, windows: np.ndarray, after_batch: Callable[[], Any]) -> np.ndarray:
        """Windows f32[n, T, Y, X, C] -> the errors of their last frames, f32[n], by batches of one size."""
        errors = []
        for start in range(0, len(windows), self._batch_size):
            numbers = np.minimum(start + np.arange(self._batch_size), len(windows) - 1)
            errors.append(np.asarray(self._fn(variables, {"clip": windows[numbers]})["error"]))
            after_batch()
        return np.concatenate(errors)[: len(windows)]

    def _draw_roc(self, found: dict[str, list[scores.Scored]], split: str, path: Path) -> None:
        baselines = {name: scores.of_clips(self._data, split, score) for name, score in scores.BASELINES.items()}
        pictures.roc(found | baselines, path)

"""Scores of frames and clips, higher for what is less expected, and the area under their ROC curves."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score

Score = Callable[[np.ndarray], np.ndarray]  # windows f32[n, T, Y, X, C] -> of the last frame of each, f[n]


class Scored(NamedTuple):
    """A clip: the number of its kind, 0 for normal; its scores f[n] and which of those frames are anomalous, or None."""

    kind: int
    scores: np.ndarray
    truth: np.ndarray | None


def absolute_difference(windows: np.ndarray) -> np.ndarray:
    """Of the last frame from the one before: the mean over pixels."""
    return np.abs(windows[:, -1] - windows[:, -2]).mean((1, 2, 3))


def copy_error(windows: np.ndarray) -> np.ndarray:
    """The mean squared error of the frame before as a prediction of the last."""
    return np.square(windows[:, -1] - windows[:, -2]).mean((1, 2, 3))


BASELINES: dict[str, Score] = {"frame difference": absolute_difference, "copy of the last frame": copy_error}


def of_clips(data: Any, part: str, score: Score) -> list[Scored]:
    """The held-out clips of a part of a `VideoAnomaly`."""
    clips, kinds = data.held_out[part], data.held_out[part].labels()
    scored = []
    for i, kind in enumerate(kinds.tolist()):
        truth = clips.truth(i)
        scored.append(Scored(kind, score(data.windows(part, i)), None if truth is None else truth[data.frames - 1 :]))
    return scored


def pooled(clips: Sequence[Scored], per: str) -> tuple[np.ndarray, np.ndarray]:
    """The scores f[n] of all frames, or of clips, each by its greatest; and which are anomalous, bool[n]."""
    if per == "clip":
        return np.array([clip.scores.max() for clip in clips]), np.array([clip.kind > 0 for clip in clips])
    return np.concatenate([clip.scores for clip in clips]), np.concatenate([clip.truth for clip in clips])


def known(clips: Sequence[Scored]) -> list[str]:
    """What there are curves of: clips, and frames if their truth is known."""
    return ["clip"] if clips[0].truth is None else ["frame", "clip"]


def areas(clips: Sequence[Scored], kinds: Sequence[str]) -> dict[str, float]:
    """{"frame_auc", "clip_auc", and of each kind beside the normal clips "frame_auc/KIND", "clip_auc/KIND"}."""
    found = {}
    for per in known(clips):
        found[f"{per}_auc"] = _area(clips, per)
        for number, name in list(enumerate(kinds))[1:]:
            found[f"{per}_auc/{name}"] = _area([clip for clip in clips if clip.kind in (0, number)], per)
    return found


def _area(clips: Sequence[Scored], per: str) -> float:
    scores, anomalous = pooled(clips, per)
    return float(roc_auc_score(anomalous, scores))

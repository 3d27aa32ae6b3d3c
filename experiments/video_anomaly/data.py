"""Windows of normal clips to train on, whole held-out clips to find anomalies in, and a user's file as a stream of windows."""

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from experiments.video_anomaly import scores
from experiments.video_anomaly.digits import KINDS, Digits
from research.core.experiment import Baseline, Codec, Dataset
from research.data import codecs, user_files
from research.data.images import labelled as images
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.video import clip_files, labelled, moving_digits, sampling
from research.util.errors import UserError, nearest

HELD_OUT = 200  # generated clips to validate on, and to test with


class Held(Protocol):
    """Clips whose `labels()` number the kinds, 0 for normal, and what is known of their frames."""

    def truth(self, index: int) -> np.ndarray | None: ...


class Loaded(NamedTuple):
    train: sampling.Clips  # normal ones
    held_out: Mapping[str, Any]  # part -> `Held`
    kinds: tuple[str, ...]  # the first is normal
    shape: tuple[int, int, int]
    report: list[str]


class Some:
    """The chosen of some clips, with new labels; no frame's truth is known."""

    def __init__(self, clips: sampling.Clips, rows: np.ndarray, labels: np.ndarray):
        self.shape, self._clips, self._rows, self._labels = clips.shape, clips, rows, labels.astype(np.int32)

    def __len__(self) -> int:
        return len(self._rows)

    def labels(self) -> np.ndarray:
        return self._labels

    def length(self, index: int) -> int:
        return self._clips.length(self._rows[index])

    def frames(self, index: int, numbers: np.ndarray) -> np.ndarray:
        return self._clips.frames(self._rows[index], numbers)

    def truth(self, index: int) -> None:
        return None


class VideoAnomaly(Dataset):
    """Batches {"clip": f32[B, T, Y, X, C] in 0..1, "label": i32[B]}: windows of T frames of normal clips.

    `held_out`: clips of each part with and without anomalies, whose kinds are `kinds`; `shape` is a window's.
    """

    def __init__(self, cfg: Mapping[str, Any], seed: int):
        self.frames = cfg["frames"]
        if self.frames < 2:
            raise UserError(f"data.frames = {self.frames}: at least 2")
        loaded = SOURCES[cfg["source"]](cfg, seed) if cfg["source"] in SOURCES else _unknown(cfg["source"])
        self.held_out, self.kinds, self.report = loaded.held_out, loaded.kinds, loaded.report
        self.shape = (self.frames, *loaded.shape)
        self.train = TrainBatches(sampling.RandomWindows(loaded.train, self.frames, 1, seed), cfg["batch_size"], seed)
        self.evals = {part: self._normal(clips, cfg["eval_batch_size"]) for part, clips in self.held_out.items()}
        self.codec = FrameErrors(self.shape)

    def _normal(self, clips: Any, batch_size: int) -> EvalBatches:
        """A window of each normal clip, the same in every run."""
        rows = np.flatnonzero(clips.labels() == 0)
        return EvalBatches(sampling.RandomWindows(Some(clips, rows, 0 * rows), self.frames, 1, 0), batch_size)

    def windows(self, part: str, index: int) -> np.ndarray:
        """The windows of a held-out clip that end at its frames T - 1, T, ..., f32[L - T + 1, T, Y, X, C]."""
        clips = self.held_out[part]
        clip = sampling.scaled(clips.frames(index, np.arange(clips.length(index))))
        view = np.lib.stride_tricks.sliding_window_view(clip, self.frames, 0)
        return np.moveaxis(view, -1, 1)

    def baselines(self) -> dict[str, Baseline]:
        """Of two scores without a network: how much a frame differs from the one before, absolutely and squared."""
        part = next(iter(self.held_out))
        found: dict[str, dict[str, float]] = {}
        for name, score in scores.BASELINES.items():
            clips = scores.of_clips(self, part, score)
            for metric, value in scores.areas(clips, self.kinds).items():
                found.setdefault(f"{part}/{metric}", {})[name] = value
        return {metric: Baseline(values) for metric, values in found.items()}


@codecs.register("frame_errors")
@dataclasses.dataclass(frozen=True)
class FrameErrors(Codec):
    """A window of `shape` (T, Y, X, C) <-> the error of its last frame; a file is a stream of windows."""

    shape: tuple[int, int, int, int]

    @property
    def inputs(self) -> dict[str, tuple]:
        return {"clip": (("b", *self.shape), "float32")}

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """A window, u8 or f32 in 0..1 of [T, Y, X, C], of any size -> f32[1, T, Y, X, C]."""
        array = np.asarray(value)
        if array.ndim != 4 or len(array) != self.shape[0]:
            raise UserError(f"a window is u8 or f32[{self.shape[0]}, Y, X, C], not {array.dtype}{list(array.shape)}")
        return {"clip": np.stack([images.to_image(frame, self.shape[1:]) for frame in array])[None]}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, float]:
        """-> the mean squared error of the window's last frame."""
        return {"error": float(np.format_float_positional(outputs["error"][0], 4, fractional=False))}

    def stream(self, file: Path) -> Iterator[tuple[dict[str, int], np.ndarray]]:
        """An animated file -> the number of each frame from T - 1 on, and the window u8[T, Y, X, C] that ends with it.

        No more than T frames are in memory. Raises UserError where a frame cannot be read, or there are fewer than T.
        """
        window: deque[np.ndarray] = deque(maxlen=self.shape[0])
        for number, frame in enumerate(clip_files.stream(file, self.shape[1:])):
            window.append(frame)
            if len(window) == self.shape[0]:
                yield {"frame": number}, np.stack(window)
        if len(window) < self.shape[0]:
            raise UserError(f"clip {file} has {len(window)} frames; the network sees {self.shape[0]} at a time")

    def read(self, file: Path) -> np.ndarray:
        """The last window of an animated file."""
        *_, (_, window) = self.stream(file)
        return window


def _digits(cfg: Mapping[str, Any], seed: int) -> Loaded:
    size, length = user_files.option(cfg, "size", 16), user_files.option(cfg, "length", 24)
    labelled.check_canvas(size, length)
    if length < 2 * cfg["frames"]:
        raise UserError(
            f"data.length = {length}: at least twice data.frames = {cfg['frames']}, so that anomalies have room"
        )
    counts = dict(zip(moving_digits.PARTS, (user_files.option(cfg, "count", 2_000), HELD_OUT, HELD_OUT), strict=True))
    parts = {part: Digits(part, n, length, size, cfg["frames"], seed) for part, n in counts.items()}
    report = [
        f"source   moving digits, drawn by seed and index: {length} frames of {size} x {size}",
        f"split    {counts['train']:,} train, normal; {HELD_OUT} valid and {HELD_OUT} test, a quarter {', '.join(KINDS)} each",
    ]
    return Loaded(parts.pop("train"), parts, KINDS, (size, size, 1), report)


def _files(cfg: Mapping[str, Any], seed: int) -> Loaded:
    """The user's own clips, as video/labelled.py has them; the class `normal` is trained on, the others are anomalies."""
    videos, normal = labelled.load(cfg, seed), user_files.option(cfg, "normal", "normal")
    if normal not in videos.classes:
        raise UserError(f"data.normal = {normal!r} is no class of {cfg['path']}{nearest(str(normal), videos.classes)}")
    kinds = (normal, *(name for name in videos.classes if name != normal))
    number = np.array([kinds.index(name) for name in videos.classes])
    parts = {part: Some(clips, np.arange(len(clips)), number[clips.labels()]) for part, clips in videos.parts.items()}
    train = parts.pop("train")
    rows = np.flatnonzero(train.labels() == 0)
    for part, clips in parts.items():
        if not 0 < np.count_nonzero(clips.labels()) < len(clips):
            raise UserError(f"data.path = {cfg['path']}: the {part} part has not both normal clips and others")
    if not len(rows) or not parts:
        raise UserError(f"data.path = {cfg['path']}: no normal clip to train on, or none to validate on")
    report = [
        *videos.report,
        f"trained  on {len(rows):,} clips of {normal}; {len(train) - len(rows):,} others are left out",
    ]
    return Loaded(Some(train, rows, 0 * rows), parts, kinds, videos.shape, report)


SOURCES = {"digits": _digits, "files": _files}


def _unknown(source: str) -> Loaded:
    raise UserError(f"no source of clips {source!r}{nearest(source, SOURCES)}")

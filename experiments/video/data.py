"""Batches of clips with their classes, and the way from a user's clip to the windows that a network sees of it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from research.core.experiment import Baseline, Codec, Dataset
from research.data import codecs, top
from research.data.images import labelled as images
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.video import clip_files, labelled, sampling
from research.util.errors import UserError


class VideoClassification(Dataset):
    """Batches {"clip": f32[B, T, Y, X, C] in 0..1, "label": i32[B]} to train with; in evaluation "clip" is f32[B, V, T, Y, X, C].

    `classes` are names, `shape` is a window's (T, Y, X, C).
    """

    def __init__(self, cfg: Mapping[str, Any], seed: int):
        videos = labelled.load(cfg, seed)
        frames, stride, self.views = (cfg[key] for key in ("frames", "stride", "views"))
        if min(frames, stride, self.views) < 1:
            raise UserError(
                f"data.frames = {frames}, data.stride = {stride}, data.views = {self.views}: at least 1 each"
            )
        self.train = TrainBatches(
            sampling.RandomWindows(videos.parts["train"], frames, stride, seed), cfg["batch_size"], seed
        )
        held_out = {part: clips for part, clips in videos.parts.items() if part != "train"}
        if not held_out:
            raise UserError("the data has neither a validation nor a test part; set data.valid_fraction above 0")
        self.evals = {
            part: EvalBatches(sampling.Views(clips, frames, stride, self.views), cfg["eval_batch_size"])
            for part, clips in held_out.items()
        }
        self.classes, self.report, self.shape = videos.classes, videos.report, (frames, *videos.shape)
        self.codec = ClipClass(self.shape, stride, self.views, tuple(self.classes))

    def baselines(self) -> dict[str, Baseline]:
        split, batches = next(iter(self.evals.items()))
        return {f"{split}/accuracy": Baseline({"most frequent class": images.most_frequent(batches.source)})}


@codecs.register("clip_class")
@dataclasses.dataclass(frozen=True)
class ClipClass(Codec):
    """A clip <-> its class, one of the names `classes`. It is seen through `views` windows of `shape` (T, Y, X, C)."""

    shape: tuple[int, int, int, int]
    stride: int  # of a window's frames
    views: int
    classes: tuple[str, ...]

    takes, gives = "clip", "class"

    @property
    def inputs(self) -> dict[str, tuple]:
        return {"clip": (("b", self.views, *self.shape), "float32")}

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """A clip u8 or f32 in 0..1 of [L, Y, X, C], of any length and size -> its V windows, f32[1, V, T, Y, X, C]."""
        array = np.asarray(value)
        if array.ndim != 4 or not len(array):
            raise UserError(f"a clip is u8 or f32[L, Y, X, C], not {array.dtype}{list(array.shape)}")
        numbers = sampling.view_numbers(self.views, self.shape[0], self.stride, len(array))
        windows = np.stack([images.to_image(array[i], self.shape[1:]) for i in numbers.ravel()])
        return {"clip": windows.reshape(1, self.views, *self.shape)}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """-> the top-1 class, and the top five with their probabilities."""
        return top.classes(self.classes, outputs["probabilities"][0])

    def handed_on(self, value: Any, decoded: Mapping[str, Any]) -> str:
        return decoded["class"]

    def read(self, file: Path) -> np.ndarray:
        """An animated file -> its frames, scaled and cut to the network's size, u8[L, Y, X, C]."""
        return np.stack(list(clip_files.stream(file, self.shape[1:])))

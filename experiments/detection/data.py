"""Batches of pictures with boxes, and the way from a user's picture to a canvas and from boxes to words."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from research.core.experiment import Codec, Dataset
from research.data import codecs
from research.data.boxes import drawing, letterbox, sources
from research.data.images import image_files
from research.data.pipeline import EvalBatches, TrainBatches
from research.util.errors import UserError


class Boxes(Dataset):
    """Batches {"image", "boxes", "labels", "box_mask", "size"}, padded to the M boxes of the picture with the most.

    image f32[B, Y, X, C] in 0..1, boxes f32[B, M, 4] as (x1, y1, x2, y2) in the canvas's pixels, labels i32[B, M], box_mask
    f32[B, M], and size i32[B, 2], the picture's own (Y, X). `held_out`: parts to evaluate on.
    """

    def __init__(self, cfg: Mapping[str, Any], seed: int, least_score: float):
        loaded = sources.load(cfg, seed)
        self.classes, self.shape, self.report = loaded.classes, loaded.shape, loaded.report
        self.train = TrainBatches(loaded.parts["train"], cfg["batch_size"], seed)
        self.sources = loaded.parts  # with the truth of each picture
        self.held_out = {
            part: EvalBatches(source, cfg["eval_batch_size"])
            for part, source in loaded.parts.items()
            if part != "train"
        }
        self.evals: dict[str, Any] = {}
        self.codec = FoundBoxes(self.shape, tuple(self.classes), least_score)


@codecs.register("found_boxes")
@dataclasses.dataclass(frozen=True)
class FoundBoxes(Codec):
    """A picture of any size, shown to the model on a canvas of `shape` <-> the boxes whose score is at least `least_score`."""

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    least_score: float

    takes = "picture"

    @property
    def inputs(self) -> dict[str, tuple]:
        return {"image": (("b", *self.shape), "float32"), "size": (("b", 2), "int32")}

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """A PIL image, u8 or f32[Y, X, C] in 0..1, of any size -> its canvas f32[1, Y, X, C], its (Y, X) i32[1, 2]."""
        image = value if isinstance(value, Image.Image) else _image(value)
        canvas = letterbox.picture(image, self.shape).astype(np.float32) / 255
        return {"image": canvas[None], "size": np.array([[image.height, image.width]], np.int32)}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, list]:
        """{"boxes": [{"label", "score", "box": [x1, y1, x2, y2] in the picture's own pixels}]}, best first."""
        boxes, labels, scores = (np.asarray(outputs[name])[0] for name in ("boxes", "labels", "scores"))
        return {
            "boxes": [
                {
                    "label": self.classes[labels[i]],
                    "score": round(float(scores[i]), 4),
                    "box": boxes[i].astype(float).round(1).tolist(),
                }
                for i in np.flatnonzero(scores >= self.least_score)
            ]
        }

    def draw(self, value: Any, decoded: Mapping[str, Any]) -> Image.Image:
        found = decoded["boxes"]
        return drawing.boxes(
            value if isinstance(value, Image.Image) else _image(value),
            [each["box"] for each in found],
            [f"{each['label']} {each['score']:.2f}" for each in found],
            [self.classes.index(each["label"]) for each in found],
        )

    def read(self, file: Path) -> Image.Image:
        try:
            with Image.open(file) as image:
                upright = ImageOps.exif_transpose(image)
                upright.load()
                return upright
        except image_files.UNREADABLE as error:
            raise UserError(f"picture {file} cannot be read: {error}") from None


def _image(value: Any) -> Image.Image:
    array = np.asarray(value)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or array.dtype != np.uint8 and array.dtype.kind != "f":
        raise UserError(f"a picture is u8 or f32[Y, X, C], C 1 or 3, not {array.dtype}{list(array.shape)}")
    if array.dtype != np.uint8:
        if not (array.min() >= 0 and array.max() <= 1):
            raise UserError(f"a picture of floats is in 0..1, not {array.min():.3g}..{array.max():.3g}")
        array = np.round(255 * array).astype(np.uint8)
    return Image.fromarray(array.squeeze(-1) if array.shape[2] == 1 else array)

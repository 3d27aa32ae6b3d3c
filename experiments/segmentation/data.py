"""Batches of pictures with a class for each pixel; from a picture to inputs, from probabilities to a label map."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.segmentation.objects import describe, separate
from research.core.experiment import Baseline, Codec, Dataset
from research.data import codecs
from research.data.defaults import VOID
from research.data.images import image_files, label_maps, labelled, segmented
from research.data.images.border_weights import border_weights, regions
from research.data.pipeline import EvalBatches, Source, TrainBatches
from research.util.errors import UserError

AT_ONCE = 100  # pictures whose labels are counted at a time


class Weighted:
    """A source with "weight" f32[n, Y, X]: that of each pixel's class, and on top border weights, `border` at the most.

    Borders are those of `objects` i[N, Y, X], by default of the regions of the labels; they are computed once a picture.
    """

    def __init__(
        self, source: Source, classes: np.ndarray, border: float, sigma: float, objects: np.ndarray | None = None
    ):
        self.source, self._classes, self._border, self._sigma = source, np.append(classes, 0), border, sigma
        self._objects = objects
        self._borders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.source)

    def gather(self, indices: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        batch = self.source.gather(indices, epoch)
        weight = self._classes[np.where(batch["label"] == VOID, -1, batch["label"])].astype(np.float32)
        if self._border:
            for i, label in zip(indices.tolist(), batch["label"], strict=True):
                if i not in self._borders:
                    objects = regions(label) if self._objects is None else self._objects[i]
                    self._borders[i] = border_weights(objects, self._border, self._sigma)
            weight += np.stack([self._borders[i] for i in indices.tolist()])
        return {**batch, "weight": weight}


class Segmentation(Dataset):
    """Batches {"image": f32[B, Y, X, C] in 0..1, "label": i32[B, Y, X], perhaps "weight": f32[B, Y, X], to train with}.

    objects  {part: u16[n, Y, X]}, the numbers of the true objects, of data that has them
    """

    def __init__(self, cfg: Mapping[str, Any], seed: int, objects: str | None = None, markers: float | None = None):
        loaded = segmented.load(cfg, seed)
        self.classes, self.shape, self.report = loaded.classes, loaded.shape, loaded.report
        self.objects = loaded.objects
        if self.objects and objects is None:
            self.report = [*self.report, f"objects  are not measured: set objects={self.classes[1]}"]
        train, border, sigma = loaded.parts["train"], cfg["border"], cfg["border_sigma"]
        if border < 0 or not sigma > 0:
            raise UserError(f"data.border = {border}, data.border_sigma = {sigma}: at least 0, and above 0")
        if border or cfg["balance"]:
            weights = np.ones(len(self.classes))
            if cfg["balance"]:
                counts = _counts(train, len(self.classes))
                weights = np.divide(counts.sum(), len(counts) * counts, out=np.zeros(len(counts)), where=counts > 0)
            train = Weighted(train, weights, border, sigma, self.objects.get("train"))
        self.train = TrainBatches(train, cfg["batch_size"], seed)
        held_out = {part: source for part, source in loaded.parts.items() if part != "train"}
        if not held_out:
            raise UserError("the data has neither a validation nor a test part; set data.valid_fraction above 0")
        self.evals = {part: EvalBatches(source, cfg["eval_batch_size"]) for part, source in held_out.items()}
        self.codec = LabelMap(self.shape, tuple(self.classes), objects, markers)

    def baselines(self) -> dict[str, Baseline]:
        """Of the most frequent class at each pixel: its share of them; its IoU is that, and the others' are 0."""
        split, batches = next(iter(self.evals.items()))
        counts = _counts(batches.source, len(self.classes))
        share = float(counts.max() / counts.sum())
        values = {"accuracy": share, "mean_iou": share / np.count_nonzero(counts)}
        return {f"{split}/{name}": Baseline({"most frequent class": value}) for name, value in values.items()}


@codecs.register("label_map")
@dataclasses.dataclass(frozen=True)
class LabelMap(Codec):
    """A picture of any size <-> the class of each pixel, and the objects of the class `objects`, which grow from `markers`.

    `shape` (Y, X, C) is that of pictures to train with.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    objects: str | None = None
    markers: float | None = None

    takes = "picture"

    @property
    def inputs(self) -> dict[str, tuple]:
        return {"image": (("b", *self.shape), "float32")}

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """A PIL image, or an array u8 or f32 in 0..1 of [Y, X, C] or [Y, X], of any size -> f32[1, Y, X, C], of that size."""
        size = value.size[::-1] if isinstance(value, Image.Image) else np.shape(value)[:2]
        return {"image": labelled.to_image(value, (*size, self.shape[2]))[None]}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """-> the classes' shares of the pixels, the size (Y, X), and the label map as [label, number of pixels] row by row.

        With `objects` also `describe` of each object, and the map of their numbers in the same form.
        """
        probabilities = np.asarray(outputs["probabilities"])[0]
        labels = probabilities.argmax(-1)
        counts = np.bincount(labels.ravel(), minlength=len(self.classes))
        shares = {name: round(float(n / labels.size), 4) for name, n in zip(self.classes, counts, strict=True) if n}
        decoded = {"shares": shares, "size": list(labels.shape), "runs": label_maps.to_runs(labels)}
        if self.objects is None:
            return decoded
        probability = probabilities[..., k := self.classes.index(self.objects)]
        numbers = separate(probability, labels == k, self.markers)
        found = describe(numbers, probability, self.objects)
        return decoded | {"objects": found, "object_runs": label_maps.to_runs(numbers)}

    def draw(self, value: Any, decoded: Mapping[str, Any]) -> Image.Image:
        """The label map as an indexed picture: its numbers are the classes, as in a mask to train with."""
        labels = label_maps.from_runs(decoded["runs"], tuple(decoded["size"])).astype(np.uint8)
        picture = Image.fromarray(labels).convert("P")
        picture.putpalette(label_maps.coloured(np.arange(256)[None])[0].ravel().tolist())
        return picture

    def further_pictures(self, value: Any, decoded: Mapping[str, Any]) -> dict[str, Image.Image]:
        """{"objects": 16 bits a pixel, its object's number, as in a mask of objects to train with}."""
        if "objects" not in decoded:
            return {}
        numbers = label_maps.from_runs(decoded["object_runs"], tuple(decoded["size"]))
        return {"objects": Image.fromarray(numbers.astype(np.uint16))}

    def read(self, file: Path) -> Image.Image:
        return image_files.opened(file)


def _counts(source: Source, num_classes: int) -> np.ndarray:
    """Pixels of each class, i64[N]."""
    counts = np.zeros(256, np.int64)
    for start in range(0, len(source), AT_ONCE):
        label = source.gather(np.arange(start, min(start + AT_ONCE, len(source))), 0)["label"]
        counts += np.bincount(label.ravel(), minlength=256)
    return counts[:num_classes]

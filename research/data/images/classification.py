"""Image classification: batches of labelled images, and the conversion from an image to a class."""

from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from research.core.experiment import Baseline, Dataset
from research.data import further_sets, top
from research.data.images import labelled
from research.data.pipeline import EvalBatches, TrainBatches
from research.util.errors import UserError


class ImageClassification(Dataset):
    """Batches {"image": f32[B, Y, X, C] in 0..1, "label": i32[B]}; `classes` are names, `shape` is (Y, X, C)."""

    def __init__(self, images: labelled.Images, batch_size: int, eval_batch_size: int, seed: int):
        held_out = {"valid": images.valid, "test": images.test}
        self.train = TrainBatches(images.train, batch_size, seed)
        self.evals = {name: EvalBatches(part, eval_batch_size) for name, part in held_out.items() if part is not None}
        if not self.evals:
            raise UserError("the data has neither a validation nor a test part; set data.valid_fraction above 0")
        self.classes, self.shape, self.report = images.classes, images.shape, images.report
        self.inputs = {"image": (("b", *images.shape), "float32")}
        self._eval_batch_size = eval_batch_size

    def baselines(self) -> Mapping[str, Baseline]:
        split, batches = next(iter(self.evals.items()))
        return {f"{split}/accuracy": Baseline({"most frequent class": labelled.most_frequent(batches.source)})}

    def eval_batches(self, cfg: Mapping[str, Any]) -> EvalBatches:
        rows, columns, channels = self.shape
        ours = {"size": (rows, columns), "channels": channels}
        images = labelled.load(ChainMap(ours, cfg))  # type: ignore[arg-type]  # which is only read
        self.report = [*self.report, *images.report]
        if images.shape != self.shape:
            raise UserError(f"{cfg['source']}: pictures of {images.shape}; the model was built for {self.shape}")
        sources = {"train": images.train, "valid": images.valid, "test": images.test}
        numbers = further_sets.class_numbers(images.classes, self.classes)
        present = [name for name, source in sources.items() if source is not None]
        names = further_sets.choose_parts(present, cfg["part"])
        return EvalBatches(labelled.Joined([sources[name] for name in names], numbers), self._eval_batch_size)

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """A PIL image, u8 or f32[Y, X, C] in 0..1 -> f32[1, Y, X, C] in 0..1, of the training images' size."""
        return {"image": labelled.to_image(value, self.shape)[None]}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """-> the top-1 class, and the top five with their probabilities."""
        return top.classes(self.classes, outputs["probabilities"][0])

    def read(self, file: Path) -> np.ndarray:
        return labelled.read(file, self.shape)


def load(cfg: Mapping[str, Any], seed: int) -> ImageClassification:
    """The data set of a config's `data` group. Raises UserError if there is none, or it has no held-out part."""
    return ImageClassification(labelled.load(cfg), cfg["batch_size"], cfg["eval_batch_size"], seed)

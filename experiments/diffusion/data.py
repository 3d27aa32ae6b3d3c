"""Pictures for denoising: image_classification's data sets, with the number by which an example draws its noise."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from research.core.experiment import Baseline, Codec
from research.data import codecs, user_files
from research.data.draws import Drawn
from research.data.images import labelled
from research.data.images.classification import ImageClassification
from research.data.pipeline import EvalBatches, TrainBatches
from research.util.errors import UserError, nearest

STATISTICS_OF = 10_000  # training pictures, and held-out ones, that a baseline is computed of

Baselines = Callable[[np.ndarray, np.ndarray], Mapping[str, float]]  # of training and of held-out pictures


class Pictures(ImageClassification):
    """Batches {"image": f32[B, Y, X, C] in 0..1, "label": i32[B], "draw": i32[B, 2]}; inputs are noise and a class.

    baselines_of  (training pictures, held-out ones) -> the loss of simple denoisers, by name
    conditional   inputs have the class, too
    """

    def __init__(
        self, images: labelled.Images, cfg: Mapping[str, Any], seed: int, conditional: bool, baselines_of: Baselines
    ):
        super().__init__(images, cfg["batch_size"], cfg["eval_batch_size"], seed)
        self.images, self._baselines_of = images, baselines_of
        self.train = TrainBatches(Drawn(images.train), cfg["batch_size"], seed)
        self.evals = {name: EvalBatches(Drawn(part.source), part.batch_size) for name, part in self.evals.items()}
        self.codec: Noise = Noise(self.shape, tuple(self.classes) if conditional else None)

    @property
    def mean_picture(self) -> np.ndarray:
        """Of (the first STATISTICS_OF) training pictures, f32[Y, X, C]."""
        train = self.images.train
        return train.gather(np.arange(min(len(train), STATISTICS_OF)), 0)["image"].mean(0)

    def baselines(self) -> dict[str, Baseline]:
        split, batches = next(iter(self.evals.items()))
        both = (self.images.train, batches.source)
        train, held_out = (part.gather(np.arange(min(len(part), STATISTICS_OF)), 0)["image"] for part in both)
        return {f"{split}/loss": Baseline(self._baselines_of(train, held_out), "squared error")}

    def eval_batches(self, cfg: Mapping[str, Any]) -> EvalBatches:
        batches = super().eval_batches(cfg)
        return EvalBatches(Drawn(batches.source), batches.batch_size)


@codecs.register("noise")
@dataclasses.dataclass(frozen=True)
class Noise(Codec):
    """Standard normal noise f32[Y, X, C] <-> a picture. With `classes` the model is conditional: (noise, name of a class)."""

    shape: tuple[int, int, int]
    classes: tuple[str, ...] | None

    @property
    def inputs(self) -> dict[str, tuple]:
        noise = {"noise": (("b", *self.shape), "float32")}
        return noise if self.classes is None else {**noise, "label": (("b",), "int32")}

    def class_number(self, name: str) -> int:
        """Raises UserError if the data has no such class, or the model reads none."""
        if self.classes is None:
            raise UserError("the model reads no class: train one with model.conditional=True")
        if name not in self.classes:
            raise UserError(f"no class {str(name)!r}{nearest(str(name), self.classes)}")
        return self.classes.index(name)

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """Standard normal noise f32[Y, X, C], or (noise, name of a class) if the model is conditional -> one row of inputs."""
        name = None
        if self.classes is not None:
            if not (isinstance(value, tuple) and len(value) == 2):
                raise UserError("a conditional model takes (noise, name of a class)")
            value, name = value
        noise = np.asarray(value, np.float32)
        if noise.shape != self.shape:
            raise UserError(f"noise of {noise.shape}; the model's pictures are {self.shape}")
        label = {} if name is None else {"label": np.array([self.class_number(name)], np.int32)}
        return {"noise": noise[None], **label}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, list]:
        """-> the picture as nested lists, rounded to four digits."""
        return {"image": np.round(np.asarray(outputs["image"])[0], 4).tolist()}

    def draw(self, value: Any, decoded: Mapping[str, Any]) -> Image.Image:
        """The picture that comes of the noise."""
        pixels = np.rint(255 * np.asarray(decoded["image"])).astype(np.uint8)
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)

    def read(self, file: Path) -> Any:
        """A .npy file of noise; if the model is conditional its class is the name of the file's folder."""
        noise = user_files.numbers(file, "noise")
        return (noise, file.resolve().parent.name) if self.classes is not None else noise

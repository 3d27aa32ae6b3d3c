"""Pictures for denoising: image_classification's data sets, with the number by which an example draws its noise."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from research.core.experiment import Baseline, Codec
from research.data import codecs, user_files
from research.data.draws import Drawn
from research.data.images import labelled
from research.data.images.classification import ImageClassification
from research.data.images.picture_codecs import ToPicture
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.with_class import WithClass
from research.util.errors import UserError

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
        codec = Noise(self.shape)
        self.codec: Codec = WithClass(codec, tuple(self.classes)) if conditional else codec

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
class Noise(ToPicture):
    """Standard normal noise f32[Y, X, C] <-> a picture."""

    shape: tuple[int, int, int]

    takes = "noise"

    @property
    def inputs(self) -> dict[str, tuple]:
        return {"noise": (("b", *self.shape), "float32")}

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """Standard normal noise f32[Y, X, C] -> one row of inputs. Raises UserError if it has another shape."""
        noise = np.asarray(value, np.float32)
        if noise.shape != self.shape:
            raise UserError(f"noise of {noise.shape}; the model's pictures are {self.shape}")
        return {"noise": noise[None]}

    def read(self, file: Path) -> np.ndarray:
        """A .npy file of noise."""
        return user_files.numbers(file, "noise")

"""Pictures for autoencoders: image_classification's data sets, with the number by which an example draws its noise."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from research.core.experiment import Baseline, Codec
from research.data import codecs
from research.data.draws import Drawn
from research.data.images import labelled
from research.data.images.classification import ImageClassification
from research.data.images.picture_codecs import Picture
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.with_class import WithClass
from research.util.errors import UserError, nearest

MEAN_OF = 10_000  # training pictures whose mean is taken for that of all
BINARISE = ("resample", "once", "none")


class Pictures(ImageClassification):
    """Batches {"image": f32[B, Y, X, C] in 0..1, "label": i32[B], "draw": i32[B, 2]}.

    conditional  inputs have the class, too, and a value is (picture, class)
    """

    def __init__(self, images: labelled.Images, batch_size: int, eval_batch_size: int, seed: int, conditional: bool):
        super().__init__(images, batch_size, eval_batch_size, seed)
        self.images = images
        self.train = TrainBatches(Drawn(images.train), batch_size, seed)
        self.evals = {name: EvalBatches(Drawn(part.source), eval_batch_size) for name, part in self.evals.items()}
        codec = PictureCode(self.shape)
        self.codec: Codec = WithClass(codec, tuple(self.classes)) if conditional else codec

    @functools.cached_property
    def pixel_means(self) -> np.ndarray:
        """The mean of each pixel over (the first MEAN_OF of) the training pictures, f64[Y, X, C] in 0.001 to 0.999."""
        source = self.images.train
        images = source.gather(np.arange(min(len(source), MEAN_OF)), 0)["image"]
        return images.mean(0, dtype=np.float64).clip(0.001, 0.999)

    def baselines(self) -> dict[str, Baseline]:
        """Of independent pixels, each with its mean over the training pictures. Binarising changes no expectation."""
        split, batches = next(iter(self.evals.items()))
        pictures = batches.source.gather(np.arange(min(len(batches.source), MEAN_OF)), 0)["image"]
        on, p = pictures.mean(0, dtype=np.float64), self.pixel_means
        nats = -(on * np.log(p) + (1 - on) * np.log(1 - p)).sum()
        return {f"{split}/loss": Baseline({"independent pixels": float(nats)}, "nats a picture")}

    def eval_batches(self, cfg: Mapping[str, Any]) -> EvalBatches:
        batches = super().eval_batches(cfg)
        return EvalBatches(Drawn(batches.source), batches.batch_size)


@codecs.register("picture_code")
@dataclasses.dataclass(frozen=True)
class PictureCode(Picture):
    """A picture <-> its code."""

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """-> the code, its standard deviations, and the mean squared error of what is decoded from it."""
        code, std = (np.asarray(outputs[key])[0] for key in ("mean", "std"))
        return {
            "code": np.round(code, 4).tolist(),
            "std": np.round(std, 4).tolist(),
            "error": float(outputs["error"][0]),
        }


def load(cfg: Mapping[str, Any], seed: int, conditional: bool) -> Pictures:
    """The data set of a config's `data` group. Raises UserError for an unknown `binarise`."""
    if cfg["binarise"] not in BINARISE:
        raise UserError(f"data.binarise = {cfg['binarise']!r}{nearest(str(cfg['binarise']), BINARISE)}")
    return Pictures(labelled.load(cfg), cfg["batch_size"], cfg["eval_batch_size"], seed, conditional)

"""Pictures for autoencoders with discrete codes: image_classification's data sets, and what simpler codes reach on them."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.vq_vae import pca
from research.core.experiment import Baseline
from research.data import codecs
from research.data.images import labelled
from research.data.images.classification import ImageClassification
from research.data.images.picture_codecs import Picture

STATISTICS_OF = 10_000  # training pictures whose statistics are taken for those of all


class Pictures(ImageClassification):
    """Batches {"image": f32[B, Y, X, C] in 0..1, "label": i32[B]}.

    bits   of a picture's codes: what the baselines may use
    prior  whether codes are modelled, and not pictures
    """

    def __init__(self, images: labelled.Images, cfg: Mapping[str, Any], seed: int, bits: float, prior: bool):
        super().__init__(images, cfg["batch_size"], cfg["eval_batch_size"], seed)
        self.images, self._bits, self._prior = images, bits, prior
        self.codec = DiscreteCodes(self.shape, prior)

    @functools.cached_property
    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """The first STATISTICS_OF training pictures and of those of the first held-out part, f32[n, Y, X, C] each."""
        first = next(iter(self.evals.values())).source
        train, held_out = (
            part.gather(np.arange(min(len(part), STATISTICS_OF)), 0)["image"] for part in (self.images.train, first)
        )
        return train, held_out

    @property
    def variance(self) -> float:
        """Of the training pixels about the mean of them all."""
        return float(self.statistics[0].var(dtype=np.float64))

    def baselines(self) -> dict[str, Baseline]:
        """Of codes: all alike likely. Of pictures: the mean picture, and principal components rounded to as many bits."""
        split = next(iter(self.evals))
        if self._prior:
            return {f"{split}/loss": Baseline({"all codes alike": self._bits * math.log(2)}, "nats a picture")}
        train, held_out = (part.reshape(len(part), -1) for part in self.statistics)
        values = {
            "mean picture": float(np.square(held_out - train.mean(0)).mean()),
            f"principal components of {self._bits:.0f} bits": pca.coding_error(train, held_out, self._bits),
        }
        return {f"{split}/reconstruction": Baseline(values, "squared error a pixel")}


@codecs.register("discrete_codes")
@dataclasses.dataclass(frozen=True)
class DiscreteCodes(Picture):
    """A picture <-> the grid of its codes; `prior`: whether there is a model of these."""

    prior: bool

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """-> the grid of codes, the mean squared error of what is decoded from it, and with a prior the nats of the grid."""
        out = {"codes": np.asarray(outputs["codes"])[0].tolist(), "error": float(outputs["reconstruction"][0])}
        return out | ({"nats": float(outputs["loss"][0])} if self.prior else {})

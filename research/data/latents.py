"""Data for GANs: training samples, and latent vectors, the inputs of a generator.

Config: source, "grid" (points of `synthetic/mixtures.GRID_CENTRES`, with num_examples) or any of `images/labelled.SOURCES`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.core.experiment import Codec, Dataset
from research.data import codecs, user_files
from research.data.images import labelled
from research.data.pipeline import Arrays, Source, TrainBatches
from research.data.synthetic import mixtures
from research.data.with_class import WithClass
from research.util.errors import UserError


class Latents(Dataset):
    """Batches {"x": f32[B, 2]} of the grid, or {"image": f32[B, Y, X, C] in 0..1, "label": i32[B]}; inputs {"z": f32[B, Z]}.

    images       the data set of the images; None for the grid
    latent       Z
    conditional  inputs have the class, too: {"z": f32[B, Z], "label": i32[B]}
    """

    def __init__(
        self,
        source: Source,
        images: labelled.Images | None,
        batch_size: int,
        seed: int,
        latent: int,
        report: Sequence[str],
        conditional: bool = False,
    ):
        self.images, self.latent, self.report = images, latent, report
        self.train = TrainBatches(source, batch_size, seed)
        self.evals: dict[str, Any] = {}
        codec = Latent(latent)
        self.codec: Codec = WithClass(codec, tuple(images.classes)) if images and conditional else codec


@codecs.register("latent")
@dataclasses.dataclass(frozen=True)
class Latent(Codec):
    """A vector of `size` numbers <-> a sample."""

    size: int

    takes = "latent vector"

    @property
    def inputs(self) -> dict[str, tuple]:
        return {"z": (("b", self.size), "float32")}

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """A latent vector f32[Z] -> f32[1, Z]. Raises UserError if it has another size."""
        z = np.asarray(value, np.float32).reshape(-1)
        if z.size != self.size:
            raise UserError(f"{z.size} numbers; the generator takes {self.size}")
        return {"z": z[None]}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, list]:
        """-> the sample as nested lists, rounded to four digits."""
        return {"x": np.round(np.asarray(outputs["x"])[0], 4).tolist()}

    def read(self, file: Path) -> np.ndarray:
        """A .npy file -> the latent vector f32[Z]. Raises UserError if it cannot be read."""
        return user_files.numbers(file, "latent vector")


def load(
    cfg: Mapping[str, Any],
    seed: int,
    *,
    batch_size: int,
    latent: int,
    report: Sequence[str] = (),
    conditional: bool = False,
) -> Latents:
    """The data set of a config's `data` group; `batch_size`, `latent` and `conditional` as in `Latents`.

    Raises UserError for a conditional model of the grid.
    """
    if cfg["source"] == "grid":
        if conditional:
            raise UserError("model.conditional = True: the grid has no classes; use a source of pictures")
        count = cfg.get("num_examples", 100_000)
        points = mixtures.mixture(mixtures.GRID_CENTRES, mixtures.GRID_STD, count, seed)
        return Latents(Arrays(points), None, batch_size, seed, latent, report)
    images = labelled.load(cfg)
    return Latents(images.train, images, batch_size, seed, latent, report, conditional)

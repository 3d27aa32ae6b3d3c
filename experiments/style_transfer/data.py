"""Pictures to restyle."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from experiments.style_transfer.objective import Objective
from research.core.experiment import Baseline, Dataset
from research.data import codecs
from research.data.images import image_files, labelled, photographs
from research.data.images.picture_codecs import ToPicture
from research.data.pipeline import EvalBatches, TrainBatches
from research.util.errors import UserError

MOST = 100  # pictures of a part that its baselines are of


class Pictures(Dataset):
    """Batches {"image": f32[B, Y, X, 3] in 0..1}."""

    def __init__(self, cfg: Mapping[str, Any], objective: Objective, seed: int):
        parts, self.report, _ = photographs.parts(cfg, seed)
        self.shape = tuple(parts["train"].gather(np.arange(1), 0)["image"].shape[1:])
        if self.shape[-1] != 3:
            raise UserError(f"data.source = {cfg['source']!r}: a style needs pictures in colour, and these are grey")
        self.objective = objective
        self.train = TrainBatches(parts.pop("train"), cfg["batch_size"], seed)
        self.evals = {part: EvalBatches(source, cfg["eval_batch_size"]) for part, source in parts.items()}
        if not self.evals:
            raise UserError("the data has neither a validation nor a test part; set data.valid_fraction above 0")
        self.codec = Restyled(self.shape)

    def baselines(self) -> dict[str, Baseline]:
        """Of the pictures as they are: the distance from the style that there is to go."""
        split, batches = next(iter(self.evals.items()))
        image = batches.source.gather(np.arange(min(MOST, len(batches.source))), 0)["image"]
        terms = {name: float(x.mean()) for name, x in jax.jit(self.objective)(image, image).items()}
        values = {"style": terms["style"], "variation": terms["variation"], "loss": self.objective.total(terms)}
        return {f"{split}/{name}": Baseline({"the picture itself": value}) for name, value in values.items()}


@codecs.register("restyled")
@dataclasses.dataclass(frozen=True)
class Restyled(ToPicture):
    """A picture of any size <-> the restyled one; `shape` (Y, X, 3) is that of pictures to train with."""

    shape: tuple[int, int, int]

    takes = "picture"

    @property
    def inputs(self) -> dict[str, tuple]:
        return {"image": (("b", *self.shape), "float32")}

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """A PIL image, or an array u8 or f32 in 0..1 of [Y, X, C] or [Y, X], of any size -> f32[1, Y, X, 3], of that size."""
        size = value.size[::-1] if isinstance(value, Image.Image) else np.shape(value)[:2]
        return {"image": labelled.to_image(value, (*size, 3))[None]}

    def read(self, file: Path) -> Image.Image:
        return image_files.opened(file)

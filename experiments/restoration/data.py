"""Pictures to restore: an original, and a classical estimate of it from what a damage leaves."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.restoration import damage as damages
from research.algorithms import picture_features
from research.core.experiment import Baseline, Dataset
from research.data import codecs
from research.data.images import labelled, photographs
from research.data.images.picture_codecs import ToPicture
from research.data.pipeline import EvalBatches, Source, TrainBatches
from research.evals.feature_distance import feature_distance
from research.evals.image_restoration import WINDOW, psnr, ssim
from research.util.errors import UserError


class Damaged:
    """A source of {"image": f32[n, Y, X, C], the originals, "estimate": the same, and "hidden": f32[n, Y, X, 1]}: `inputs_of`."""

    def __init__(self, source: Source, damage: Any):
        self.source, self.damage = source, damage

    def __len__(self) -> int:
        return len(self.source)

    def gather(self, indices: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        image = self.source.gather(indices, epoch)["image"]
        return {"image": image, **inputs_of(self.damage, self.damage.apply(image), image.shape[1:])}


def inputs_of(damage: Any, damaged: np.ndarray, shape: tuple) -> dict[str, np.ndarray]:
    """Damaged pictures -> {"estimate": f32[n, Y, X, C], "hidden": f32[n, Y, X, 1], 1 where a pixel is to be restored}."""
    hidden = np.broadcast_to(damage.hidden(shape)[..., None], (len(damaged), *shape[:2], 1))
    return {"estimate": next(iter(damage.estimates(damaged).values())), "hidden": hidden.astype(np.float32)}


class Restoration(Dataset):
    """Batches as `Damaged` has them. `shape` is (Y, X, C) of the originals."""

    def __init__(self, cfg: Mapping[str, Any], damage_cfg: Mapping[str, Any], features: str | None, seed: int):
        self.damage = damages.make(damage_cfg)
        parts, self.report, images = photographs.parts(cfg, seed)
        self.features = picture_features.make(features, images) if features else None
        self.shape = tuple(parts["train"].gather(np.arange(1), 0)["image"].shape[1:])
        self.damage.input_shape(self.shape)
        sources = {part: Damaged(source, self.damage) for part, source in parts.items()}
        self.train = TrainBatches(sources.pop("train"), cfg["batch_size"], seed)
        self.evals = {part: EvalBatches(source, cfg["eval_batch_size"]) for part, source in sources.items()}
        if not self.evals:
            raise UserError("the data has neither a validation nor a test part; set data.valid_fraction above 0")
        self.codec = Repair(self.shape, damage_cfg["name"], damage_cfg["size"])

    def distance(self, restored: Any, image: Any, hidden: Any) -> jax.Array:
        """Of restored pictures f32[n, Y, X, C] from the originals to `features`, where `hidden` f32[n, Y, X, 1] is 1: f32[n]."""
        return feature_distance(self.features(restored), self.features(image), hidden[..., 0])

    def baselines(self) -> dict[str, Baseline]:
        """Of every classical estimate on every held-out part: PSNR, SSIM of pictures as large as its window, and `distance`."""
        found = {}
        for part, batches in self.evals.items():
            image = batches.source.source.gather(np.arange(len(batches.source)), 0)["image"]
            estimates, hidden = self.damage.estimates(self.damage.apply(image)), self.damage.hidden(self.shape)
            errors = {
                name: np.square(each - image)[:, hidden].mean(dtype=np.float64) for name, each in estimates.items()
            }
            found[f"{part}/psnr"] = Baseline({name: psnr(error) for name, error in errors.items()}, "dB")
            if min(self.shape[:2]) >= WINDOW:
                similar = {name: float(ssim(each, image).mean()) for name, each in estimates.items()}
                found[f"{part}/ssim"] = Baseline(similar)
            if self.features:
                mask = np.broadcast_to(hidden[..., None].astype(np.float32), (len(image), *self.shape[:2], 1))
                far = {name: float(self.distance(each, image, mask).mean()) for name, each in estimates.items()}
                found[f"{part}/feature_distance"] = Baseline(far)
        return found


@codecs.register("repair")
@dataclasses.dataclass(frozen=True)
class Repair(ToPicture):
    """A damaged picture <-> the restored one. What lies in a hidden square is not read."""

    shape: tuple[int, int, int]
    name: str
    size: int

    takes = "picture"

    @property
    def inputs(self) -> dict[str, tuple]:
        Y, X, C = self.shape
        return {"estimate": (("b", Y, X, C), "float32"), "hidden": (("b", Y, X, 1), "float32")}

    @property
    def _damage(self) -> Any:
        return damages.DAMAGES[self.name](self.size)

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """A damaged PIL image, u8 or f32[Y, X, C] in 0..1, scaled and cut to the size of such -> one row of inputs."""
        damaged = labelled.to_image(value, self._damage.input_shape(self.shape))[None]
        return inputs_of(self._damage, damaged, self.shape)

    def read(self, file: Path) -> np.ndarray:
        return labelled.read(file, self._damage.input_shape(self.shape))

"""From a picture to a model's input; from what the model makes of it to words and numbers."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from research.core.experiment import Codec, Embedding
from research.data import codecs, top
from research.data.images import labelled


@dataclasses.dataclass(frozen=True)
class Picture(Codec):
    """A picture, scaled and cut to `shape` (Y, X, C) <-> what a subclass says."""

    shape: tuple[int, int, int]

    takes = "picture"

    @property
    def inputs(self) -> dict[str, tuple]:
        return {"image": (("b", *self.shape), "float32")}

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """A PIL image, u8 or f32[Y, X, C] in 0..1 -> f32[1, Y, X, C] in 0..1, of the training images' size."""
        return {"image": labelled.to_image(value, self.shape)[None]}

    def read(self, file: Path) -> Any:
        return labelled.read(file, self.shape)


class ToPicture(Codec):
    """A value <-> a picture, outputs["image"] f32[1, Y, X, C] in 0..1."""

    gives = "picture"

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, list]:
        """-> the picture as nested lists, rounded to four digits."""
        return {"image": np.round(np.asarray(outputs["image"])[0], 4).tolist()}

    def handed_on(self, value: Any, decoded: Mapping[str, Any]) -> Image.Image:
        return self.draw(value, decoded)

    def draw(self, value: Any, decoded: Mapping[str, Any]) -> Image.Image:
        pixels = np.rint(255 * np.asarray(decoded["image"])).astype(np.uint8)
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


@codecs.register("picture_class")
@dataclasses.dataclass(frozen=True)
class PictureClass(Picture):
    """A picture <-> its class, one of the names `classes`."""

    classes: tuple[str, ...]

    gives = "class"

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """-> the top-1 class, and the top five with their probabilities."""
        return top.classes(self.classes, outputs["probabilities"][0])

    def handed_on(self, value: Any, decoded: Mapping[str, Any]) -> str:
        return decoded["class"]


@codecs.register("picture_embedding")
@dataclasses.dataclass(frozen=True)
class PictureEmbedding(Picture):
    """A picture <-> its embedding, rounded to four digits."""

    @property
    def embeddings(self) -> dict[str, Embedding]:
        return {"image": Embedding(self.encode, "embedding")}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, list]:
        return {"embedding": np.round(np.asarray(outputs["embedding"])[0], 4).tolist()}

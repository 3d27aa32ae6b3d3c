"""How far a picture is from another's content and from a style, by a fixed network."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from research.algorithms import picture_features
from research.data.images import image_files, labelled
from research.losses import style as losses
from research.util.errors import UserError

TERMS = ("content", "style", "variation")


class Objective:
    """(pictures, originals), f32[B, Y, X, 3] in 0..1 -> {"content", "style", "variation": f32[B]}: research/losses/style.py.

    Content is compared in the last of the network's layers, style in each (the mean over them). `coefficients` are of the terms.
    """

    def __init__(self, features: str, picture: np.ndarray, coefficients: Mapping[str, float]):
        self.network, self.picture = picture_features.make(features, None), picture
        self.coefficients = {name: coefficients[name] for name in TERMS}

    def __call__(self, image: jax.Array, original: jax.Array) -> dict[str, jax.Array]:
        layers, originals, styles = self.network(image), self.network(original), self._grams
        return {
            "content": losses.content(layers[-1], originals[-1]),
            "style": sum(losses.style(x, gram) for x, gram in zip(layers, styles, strict=True)) / len(layers),
            "variation": losses.total_variation(image),
        }

    def total(self, terms: Mapping[str, Any]) -> Any:
        """The loss."""
        return sum(self.coefficients[name] * terms[name] for name in TERMS)

    @functools.cached_property
    def _grams(self) -> list[np.ndarray]:
        """Of the style, once, outside of the trace that first asks: they are constants there."""
        grams = jax.jit(lambda image: [losses.gram(x)[0] for x in self.network(image)])
        return picture_features.outside(lambda: jax.device_get(grams(self.picture[None])))


def picture(path: str | None, size: int) -> np.ndarray:
    """A file's picture, its shorter side scaled to `size` pixels, f32[Y, X, 3] in 0..1; None is scikit-learn's flower.jpg.

    Raises UserError for a file that cannot be read, and for a size that is no number above 0.
    """
    if not isinstance(size, int) or size < 1:
        raise UserError(f"a size of {size!r} pixels: a whole number of 1 or more")
    if path is None:
        from sklearn.datasets import load_sample_image  # slow to import

        image = Image.fromarray(load_sample_image("flower.jpg"))
    else:
        image = image_files.opened(Path(path))
    scale = size / min(image.size)
    Y, X = (max(1, round(scale * side)) for side in image.size[::-1])
    return labelled.to_image(image, (Y, X, 3))

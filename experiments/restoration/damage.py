"""Damages, and what restores a picture without learning: a network begins with the first of these estimates.

A damage has `size` and
  input_shape(shape)     the size of a damaged picture, (Y, X, C), for originals of `shape`
  hidden(shape)          which pixels are to be restored, bool[Y, X]
  apply(images)          originals f32[N, Y, X, C] in 0..1 -> damaged pictures
  estimates(damaged)     -> {name: pictures f32[N, Y, X, C] in 0..1}; the first is the network's
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from research.evals.image_restoration import harmonic_fill
from research.nn.from_config import choose
from research.util.errors import UserError

Shape = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Downscale:
    """Smaller by the factor `size`, by bicubic interpolation with antialiasing."""

    size: int

    def input_shape(self, shape: Shape) -> Shape:
        """Raises UserError if the factor does not divide the sides."""
        Y, X, C = shape
        if self.size < 2 or Y % self.size or X % self.size:
            raise UserError(f"damage.size = {self.size}: a factor of 2 or more that divides the {Y} x {X} pixels")
        return Y // self.size, X // self.size, C

    def hidden(self, shape: Shape) -> np.ndarray:
        return np.ones(shape[:2], bool)

    def apply(self, images: np.ndarray) -> np.ndarray:
        Y, X, _ = self.input_shape(images.shape[1:])
        return resized(images, Y, X, Image.Resampling.BICUBIC)

    def estimates(self, damaged: np.ndarray) -> dict[str, np.ndarray]:
        Y, X = (self.size * side for side in damaged.shape[1:3])
        methods = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
        return {name: resized(damaged, Y, X, method) for name, method in methods.items()}


@dataclasses.dataclass(frozen=True)
class Mask:
    """A square of `size` pixels a side is hidden in the middle: the central region of Pathak et al. 2016 (1604.07379)."""

    size: int

    def input_shape(self, shape: Shape) -> Shape:
        """Raises UserError if nothing would be left around the square."""
        if not 1 <= self.size < min(shape[:2]):
            raise UserError(f"damage.size = {self.size}: from 1 to below the picture's {shape[0]} x {shape[1]} pixels")
        return shape

    def hidden(self, shape: Shape) -> np.ndarray:
        hidden = np.zeros(shape[:2], bool)
        top, left = ((side - self.size) // 2 for side in shape[:2])
        hidden[top : top + self.size, left : left + self.size] = True
        return hidden

    def apply(self, images: np.ndarray) -> np.ndarray:
        return np.where(self.hidden(images.shape[1:])[..., None], np.float32(0.5), images)

    def estimates(self, damaged: np.ndarray) -> dict[str, np.ndarray]:
        hidden = self.hidden(damaged.shape[1:])
        mean = damaged[:, ~hidden].mean(1)[:, None, None]
        fills = {
            "harmonic": harmonic_fill(damaged, ~hidden),
            "mean of what is known": np.where(hidden[..., None], mean, damaged),
        }
        return {name: fill.astype(np.float32) for name, fill in fills.items()}


DAMAGES: dict[str, Any] = {"downscale": Downscale, "mask": Mask}


def make(cfg: Mapping[str, Any]) -> Downscale | Mask:
    """The damage of a config's `damage` group."""
    return choose(DAMAGES, cfg["name"], "damage.name")(cfg["size"])


def resized(images: np.ndarray, rows: int, columns: int, method: Image.Resampling) -> np.ndarray:
    """Pillow's interpolation, which averages over more pixels where it makes smaller: f32[N, Y, X, C] -> [N, rows, columns, C].

    Values that it sends beyond 0..1 are clipped.
    """
    vertical, horizontal = (_matrix(n, to, method) for n, to in zip(images.shape[1:3], (rows, columns), strict=True))
    return np.einsum("iy,jx,nyxc->nijc", vertical, horizontal, images, optimize=True).clip(0, 1)


def _matrix(size: int, to: int, method: Image.Resampling) -> np.ndarray:
    """The interpolation of `size` pixels to `to`, f32[to, size]."""
    return np.asarray(Image.fromarray(np.eye(size, dtype=np.float32)).resize((size, to), method))

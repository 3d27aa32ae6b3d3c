"""What an encoder is measured by: probes of its features, beside those of the pixels and of the untrained network."""

import functools
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.pretrain_images.data import Embed, Pictures
from research.core import mesh
from research.core.experiment import Evaluated
from research.evals import images

SHOWN = 12  # pictures of a sample


class Evaluation:
    """The evaluator: the accuracies of a linear probe and of the nearest neighbours, and a sample of what the method does.

    embed    (variables, {"image": f32[B, Y, X, C]}) -> {"embedding": f32[B, D]}
    rows     (variables, batch) -> rows of pictures f32[B, Y, X, C], which the sample called `name` shows
    """

    def __init__(self, embed: Callable, rows: Callable, data: Pictures, name: str):
        self._embed, self._rows = jax.jit(embed), jax.jit(rows)
        self._data, self._name = data, name

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        values, fitted = self._data.measure(_features(self._embed, state.variables), split, after_batch)
        lines = [f"probe    C = {fitted.strength:g}, chosen on valid{'' if fitted.converged else '; not converged'}"]
        return Evaluated(values, {self._name: partial(self._draw, state.variables, split)}, lines)

    def _draw(self, variables: Mapping, split: str, path: Path) -> None:
        source = self._data.evals[split].source
        batch = source.gather(np.arange(min(len(source), SHOWN)), 0)
        rows = [np.asarray(row, np.float32) for row in (batch["image"], *self._rows(variables, batch))]
        tiles = np.pad(np.concatenate(rows), ((0, 0), (1, 1), (1, 1), (0, 0)))
        pixels = images.grid(tiles, len(batch["image"]))
        images.save_png(path, pixels, scale=max(1, 400 // pixels.shape[1]))


def untrained(embed: Callable, init: Callable[[], Mapping], axes: Mapping[str, int]) -> Embed:
    """The features of a network's initial values, as a function of pictures, on one local device."""
    embed, variables = jax.jit(embed), functools.cache(jax.jit(init))

    def features(pictures: np.ndarray) -> np.ndarray:
        with jax.set_mesh(mesh.make_mesh(dict.fromkeys(axes, 1), jax.local_devices()[:1])):
            return _features(embed, variables())(pictures)

    return features


def _features(embed: Callable, variables: Mapping) -> Embed:
    return lambda pictures: np.asarray(embed(variables, {"image": pictures})["embedding"])

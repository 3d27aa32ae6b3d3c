"""What both stages are measured by besides their losses: the codes in use, samples, and what a classifier says of these."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.vq_vae import codebook, prior
from experiments.vq_vae import model as models
from experiments.vq_vae.data import Pictures
from research.algorithms.sample_metrics import METRICS, ClassifierMetrics
from research.core.experiment import Evaluated
from research.evals import images

SAMPLES, ROWS = 100, 10


class AutoencoderEvaluation:
    """The first stage's evaluator. Of each held-out part: codes in use, their perplexity, reconstructions."""

    METRICS = ("codes_used", "perplexity")

    def __init__(self, model: models.VQVAE, data: Pictures):
        self._model, self._data = model, data
        self._codes = jax.jit(partial(model.apply, method="grid"))
        self._decode = jax.jit(partial(model.apply, method="picture"))

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        counts = np.zeros(self._model.codes)
        batches = self._data.evals[split]
        for i in range(len(batches)):
            batch = batches.batch(i)
            codes = np.asarray(self._codes(state.variables, batch["image"]))[batch["mask"] > 0]
            counts += np.bincount(codes.reshape(-1), minlength=len(counts))
            after_batch()
        values = {
            "codes_used": float((counts > 0).sum()),
            "perplexity": float(codebook.perplexity(jnp.asarray(counts / counts.sum()))),
        }
        return Evaluated(values, {"reconstructions.png": partial(self._draw, state, batches.source)})

    def _draw(self, state: Any, source: Any, path: Path) -> None:
        """Pairs of rows: pictures, and what is decoded from their codes."""
        image = source.gather(np.arange(min(len(source), 2 * ROWS)), 0)["image"]
        decoded = np.asarray(self._decode(state.variables, self._codes(state.variables, image)))
        rows = [part[i : i + ROWS] for i in range(0, len(image), ROWS) for part in (image, decoded)]
        images.save_tiles(path, np.concatenate(rows), min(ROWS, len(image)))


class PriorEvaluation:
    """The second stage's evaluator. Of the first held-out part: samples, and the loss of independent cells as a baseline.

    With `scored`, samples are measured at the end: splits `quality`, against validation pictures, and `quality_test`.
    """

    METRICS = (*METRICS, "independent_cells")

    def __init__(self, model: prior.GatedPixelCNN, autoencoder: models.VQVAE, data: Pictures, scored: bool):
        self._model, self._autoencoder, self._data = model, autoencoder, data
        self._first = next(iter(data.evals))
        self._metrics = ClassifierMetrics(data.images) if scored else None
        self.at_end = self._metrics.splits if self._metrics else []
        self._codes = jax.jit(partial(autoencoder.apply, method="grid"))
        self._draw = jax.jit(self._drawn, static_argnums=2)

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        after_batch()
        if self._metrics and split in self.at_end:
            samples = self._draw(state.variables, jax.random.key(1), self._metrics.count)
            return Evaluated(self._metrics(np.asarray(samples), split))
        if split != self._first:
            return Evaluated({})
        return Evaluated(
            {"independent_cells": self._independent(state)}, {"samples.png": partial(self.draw_samples, state)}
        )

    def draw_samples(self, state: Any, path: Path, key: jax.Array | None = None) -> None:
        """Writes SAMPLES pictures, decoded from codes that the prior draws."""
        key = jax.random.key(0) if key is None else key
        images.save_tiles(path, np.asarray(self._draw(state.variables, key, SAMPLES)), ROWS)

    def _drawn(self, variables: Mapping, key: jax.Array, count: int) -> jax.Array:
        codes = prior.draw(
            self._model, {"params": variables["params"]}, key, count, models.grid_shape(self._autoencoder)
        )
        return self._autoencoder.apply(variables["autoencoder"], codes, method="picture").clip(0, 1)

    def _independent(self, state: Any) -> float:
        """Nats a picture of codes drawn cell by cell with their shares among training pictures, each counted once more."""
        frozen = state.variables["autoencoder"]
        train, held_out = (
            np.asarray(self._codes(frozen, image)).reshape(len(image), -1) for image in self._data.statistics
        )
        eye = np.eye(self._model.num_codes)
        shares = (1 + eye[train].sum(0)) / (len(eye) + len(train))
        return float(-np.log(shares[np.arange(train.shape[1]), held_out]).sum(1).mean())

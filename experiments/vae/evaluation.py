"""What an autoencoder is measured by besides its bound: the latents in use, the likelihood by many samples, its own samples."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.vae.data import Pictures
from experiments.vae.model import VAE
from research.algorithms.sample_metrics import METRICS, ClassifierMetrics
from research.core.experiment import Evaluated
from research.evals import images
from research.losses import variational
from research.util.errors import UserError

LIKELIHOOD = "likelihood"  # the split that is measured once, at the end
CHUNK = 50  # samples of a code at a time
ACTIVE = 0.01  # least variance of a latent's mean over pictures, for which it counts as used (Burda et al. 2016, section 5.2)
MOST_PICTURES = 2_000  # of which the variance is taken
SAMPLES, ROWS, TRAVERSED = 100, 10, np.linspace(-3, 3, 11)


class Evaluation:
    """The evaluator. Of the first held-out split: the number of active latents, samples, reconstructions and traversals.

    At the end, if `likelihood.samples` is above 0, `likelihood/nll`: -log p(x) in nats a picture of the part `likelihood.part`,
    bounded by so many importance weights (Burda et al. 2016). The noise and the pixels are the same for every run.
    With `scored` samples are measured at the end, too: splits `quality`, against validation pictures, and `quality_test`.

    pixels  batch -> f[B, P], as the loss has them
    """

    METRICS = (*METRICS, "nll", "active_latents")

    def __init__(self, model: VAE, data: Pictures, cfg: Mapping[str, Any], pixels: Callable, scored: bool):
        self._model, self._data, self._pixels = model, data, pixels
        self._count, self._part = cfg["samples"], cfg["part"]
        self._first = next(iter(data.evals))
        self._metrics = ClassifierMetrics(data.images) if scored else None
        self._scored = self._metrics.splits if self._metrics else []
        self.at_end = [*([LIKELIHOOD] if self._count else []), *self._scored]
        if self._count < 0:
            raise UserError(f"likelihood.samples = {self._count}: at least 0")
        if self._count and self._part not in data.evals:
            raise UserError(f"likelihood.part = {self._part!r}; the data has {', '.join(data.evals)}")
        self._encode = jax.jit(lambda variables, batch: self._code(variables, batch)[0])
        self._decode = jax.jit(self._decoded)
        self._log_likelihood = jax.jit(self._bound)

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        if split == LIKELIHOOD:
            return Evaluated({"nll": self._nll(state.variables, after_batch)})
        if split != self._first and split not in self._scored:
            return Evaluated({})
        after_batch()  # there is one batch
        if self._metrics and split in self._scored:
            return Evaluated(self._metrics(self._samples(state, jax.random.key(1), self._metrics.count), split))
        source = self._data.evals[split].source
        batch = source.gather(np.arange(min(len(source), MOST_PICTURES)), 0)
        means = np.asarray(self._encode(state.variables, batch), np.float64)
        active = means.var(0) > ACTIVE
        files = {
            "samples.png": partial(self.draw_samples, state),
            "reconstructions.png": partial(self._draw_reconstructions, state, batch),
            "traversals.png": partial(self._draw_traversals, state, batch, means),
        }
        return Evaluated({"active_latents": float(active.sum())}, files)

    def draw_samples(self, state: Any, path: Path, key: jax.Array | None = None) -> None:
        """Writes SAMPLES pictures: means of p(x | z), z from the prior; of a conditional model a row is of one class."""
        images.save_tiles(path, self._samples(state, jax.random.key(0) if key is None else key, SAMPLES), ROWS)

    def _samples(self, state: Any, key: jax.Array, count: int) -> np.ndarray:
        z = jax.random.normal(key, (count, self._model.latent))
        label = jnp.arange(count) // ROWS % len(self._data.classes)
        return np.asarray(self._decode(state.variables, z, label))

    def _draw_reconstructions(self, state: Any, batch: Mapping, path: Path) -> None:
        """Pairs of rows: pictures as the model reads them, and what it decodes from their codes' means."""
        batch = {name: values[: 2 * ROWS] for name, values in batch.items()}
        read = np.asarray(self._pixels(batch), np.float32).reshape(batch["image"].shape)
        decoded = np.asarray(self._decode(state.variables, self._encode(state.variables, batch), batch["label"]))
        rows = [part[i : i + ROWS] for i in range(0, len(read), ROWS) for part in (read, decoded)]
        images.save_tiles(path, np.concatenate(rows), min(ROWS, len(read)))

    def _draw_traversals(self, state: Any, batch: Mapping, means: np.ndarray, path: Path) -> None:
        """A row for each of the ROWS latents that vary most: the first picture's code with that latent from -3 to 3."""
        latents = np.argsort(-means.var(0))[:ROWS]
        codes = np.tile(means[0].astype(np.float32), (len(latents), len(TRAVERSED), 1))
        for row, latent in enumerate(latents):
            codes[row, :, latent] = TRAVERSED
        label = np.full(len(latents) * len(TRAVERSED), batch["label"][0])
        decoded = self._decode(state.variables, codes.reshape(len(label), -1), label)
        images.save_tiles(path, np.asarray(decoded), len(TRAVERSED))

    def _nll(self, variables: Any, after_batch: Callable[[], Any]) -> float:
        batches, total, count = self._data.evals[self._part], 0.0, 0.0
        for i in range(len(batches)):
            batch = batches.batch(i)
            total += float(np.sum(np.asarray(self._log_likelihood(variables, batch), np.float64) * batch["mask"]))
            count += float(batch["mask"].sum())
            after_batch()
        return -total / count

    def _bound(self, variables: Any, batch: Mapping) -> jax.Array:
        """-> the importance bound of log p(x), f32[B], from `likelihood.samples` samples, at most CHUNK of them at once."""
        (mean, log_std), x = self._code(variables, batch), self._pixels(batch)
        chunk = math.gcd(self._count, CHUNK)

        def add(total: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
            noise = jax.vmap(lambda row: jax.random.normal(_key(row, number), (chunk, mean.shape[-1])))(batch["draw"])
            z = mean[:, None] + jnp.exp(log_std)[:, None] * noise
            log_p = variational.bernoulli_log_likelihood(
                self._model.apply(variables, z, batch["label"], method="decode"), x[:, None]
            )
            log_weights = variational.log_weights(log_p, z, mean[:, None], log_std[:, None])
            return jnp.logaddexp(total, jax.nn.logsumexp(log_weights, axis=-1)), None

        total, _ = jax.lax.scan(add, jnp.full(len(mean), -jnp.inf), jnp.arange(self._count // chunk))
        return total - math.log(self._count)

    def _code(self, variables: Any, batch: Mapping) -> tuple[jax.Array, jax.Array]:
        return self._model.apply(variables, self._pixels(batch), batch["label"], method="encode")

    def _decoded(self, variables: Any, z: jax.Array, label: jax.Array) -> jax.Array:
        logits = self._model.apply(variables, z, label, method="decode")
        return jax.nn.sigmoid(logits).reshape(-1, *self._model.shape)


def _key(draw: jax.Array, number: jax.Array) -> jax.Array:
    """Of a chunk of an example's codes; none of training's or of the bound's in evaluation."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(1), number), draw[1])

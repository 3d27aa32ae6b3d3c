"""How good the samples are: mode coverage of the grid; for pictures, what a classifier trained here makes of them.

The classifier is a small convolutional network, trained on the same training pictures from a fixed seed; its own accuracy on
validation pictures stands beside every number that it gives. The Fréchet distance is between its hidden features of
samples and of validation pictures, and is comparable only with itself: it is not the FID of Inception features.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.core import config, mesh, optim, state
from research.core.experiment import Evaluated
from research.core.step import make_train_step
from research.data.images import labelled
from research.data.pipeline import TrainBatches
from research.data.synthetic import mixtures
from research.evals import generative, pictures
from research.losses.classification import cross_entropy
from research.models.vision.convnet import ConvNet

NUM_SAMPLES = 2_500  # as PacGAN's evaluation
JUDGE_STEPS, JUDGE_BATCH = 800, 64


class Quality:
    """An evaluator of samples. `draw(state, path)` writes a picture of them; `report` says what measures."""

    def __init__(self, fn: Callable, latent: int, seed: int, measure: Callable, draw: Callable, report: list[str]):
        self._key, self._latent = jax.random.fold_in(jax.random.key(seed), 1), latent
        self._fn, self._measure, self._draw, self.report = jax.jit(fn), measure, draw, report

    def __call__(self, state: Any, split: str, folder: Path) -> Evaluated:
        return Evaluated(self._measure(self._samples(state, self._key)), {"samples.png": partial(self.draw, state)})

    def draw(self, state: Any, path: Path, key: jax.Array | None = None) -> None:
        self._draw(path, self._samples(state, self._key if key is None else key))

    def _samples(self, state: Any, key: jax.Array) -> np.ndarray:
        z = jax.random.normal(key, (NUM_SAMPLES, self._latent))
        return np.asarray(self._fn(state.variables, {"z": z})["x"], np.float32)


def make(fn: Callable, latent: int, seed: int, data: labelled.Images | None) -> Quality:
    if data is None:
        return Quality(fn, latent, seed, _modes, _scatter, [f"measured by {NUM_SAMPLES:,} samples: modes of 25"])
    return Quality(
        fn, latent, seed, Judge(data), _grid, [f"measured by {NUM_SAMPLES:,} samples and a classifier trained here"]
    )


def _modes(samples: np.ndarray) -> dict[str, float]:
    return generative.mode_coverage(samples, mixtures.GRID_CENTRES, mixtures.GRID_STD)


def _scatter(path: Path, samples: np.ndarray) -> None:
    pictures.save_scatter(path, samples, mixtures.GRID_CENTRES)


def _grid(path: Path, samples: np.ndarray) -> None:
    tiles = pictures.grid(np.pad(samples[:100], ((0, 0), (1, 1), (1, 1), (0, 0))), 10)
    pictures.save_png(path, tiles, scale=max(1, 400 // len(tiles)))


class Judge:
    """A digit classifier's opinion of samples: inception-style score, Fréchet distance, share of each class."""

    def __init__(self, data: labelled.Images):
        self._data, self._params = data, None
        self._model = ConvNet(num_classes=len(data.classes), hidden=128)
        self._look = jax.jit(self._features)

    def _prepare(self) -> None:
        """Trains at the first question: showing or exporting an experiment needs no judge."""
        data = self._data
        self._params = _train(self._model, data)
        held_out = data.valid.gather(np.arange(min(len(data.valid), NUM_SAMPLES)), 0)
        features, probabilities = self._look(self._params, held_out["image"])
        self._accuracy = float((probabilities.argmax(-1) == held_out["label"]).mean())
        self._moments = generative.moments(features)
        self._real_score, _ = generative.inception_score(probabilities)

    def _features(self, params: Any, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """f32[B, Y, X, C] -> hidden units f32[B, 128], class probabilities f32[B, N]."""
        logits, kept = self._model.apply({"params": params}, image, capture_intermediates=True)
        hidden = jax.nn.relu(kept["intermediates"]["hidden"]["__call__"][0])
        return hidden, jax.nn.softmax(logits)

    def __call__(self, samples: np.ndarray) -> dict[str, float]:
        if self._params is None:
            self._prepare()
        features, probabilities = self._look(self._params, samples)
        score, _ = generative.inception_score(probabilities)
        counts = np.bincount(np.asarray(probabilities).argmax(-1), minlength=probabilities.shape[-1])
        return {
            "frechet": generative.frechet_distance(*generative.moments(features), *self._moments),
            "score": score,
            "score_of_real": self._real_score,
            "classes": float((counts > 0).sum()),
            "judge_accuracy": self._accuracy,
        }


def _train(model: ConvNet, data: labelled.Images) -> Any:
    """The classifier's parameters after JUDGE_STEPS of Adam; always the same for the same data."""
    batches = TrainBatches(data.train, JUDGE_BATCH, seed=0)
    tx = optim.make({**config.OPTIM, "peak_lr": 2e-3}, JUDGE_STEPS)
    one = mesh.make_mesh({"data": 1}, jax.local_devices()[:1])

    def loss(params, model_state, batch, key):
        scalar, metrics = cross_entropy(model.apply({"params": params}, batch["image"]), batch["label"])
        return scalar, (metrics, model_state)

    with jax.set_mesh(one):
        train_step = make_train_step(loss, tx)
        now = state.create(lambda key: model.init(key, jnp.zeros((1, *data.shape))), tx, 0, one)
        for batch in batches.on_device(one, 0, JUDGE_STEPS):
            now, _ = train_step(now, batch)
    return jax.device_get(now.params)

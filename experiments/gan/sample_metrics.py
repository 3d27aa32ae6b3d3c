"""Metrics of samples: mode coverage for the grid of Gaussians; for images, metrics of a classifier that is trained here.

The classifier is a small convolutional network, trained on the same training images from a fixed seed; its accuracy on the
validation images is logged with its metrics. The Fréchet distance is between its hidden features of samples and of
validation images, and is comparable only with other values of this function: it is not the FID of Inception features.
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
from research.data.latents import Latents
from research.data.pipeline import TrainBatches
from research.data.synthetic import mixtures
from research.evals import generative, images
from research.losses.classification import cross_entropy
from research.models.vision.convnet import ConvNet
from research.util.errors import UserError

NUM_SAMPLES = 2_500  # as in PacGAN's evaluation
JUDGE_STEPS, JUDGE_BATCH = 800, 64


class SampleMetrics:
    """The evaluator: measures and plots NUM_SAMPLES samples. Those that are measured always have the same latent vectors.

    fn         (variables, {"z": f32[B, latent]}) -> {"x": f32[B, ...]}
    measure    (samples f32[n, ...]) -> {name: value}
    plot       (path, samples) writes an image
    """

    def __init__(self, fn: Callable, latent: int, seed: int, measure: Callable, plot: Callable):
        self._key, self._latent = jax.random.fold_in(jax.random.key(seed), 1), latent
        self._fn, self._measure, self._plot = jax.jit(fn), measure, plot

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable = lambda: None) -> Evaluated:
        after_batch()  # there is one batch
        return Evaluated(self._measure(self._samples(state, self._key)), {"samples.png": partial(self.draw, state)})

    def draw(self, state: Any, path: Path, key: jax.Array | None = None) -> None:
        """Writes an image of samples: of new ones from `key`, or without a key of those that are measured."""
        self._plot(path, self._samples(state, self._key if key is None else key))

    def _samples(self, state: Any, key: jax.Array) -> np.ndarray:
        z = jax.random.normal(key, (NUM_SAMPLES, self._latent))
        return np.asarray(self._fn(state.variables, {"z": z})["x"], np.float32)


def make(fn: Callable, data: Latents, seed: int) -> SampleMetrics:
    """The evaluator for a data set. `fn`: (variables, {"z": f32[B, Z]}) -> {"x": f32[B, ...]}."""
    measure, plot = (_modes, _scatter) if data.images is None else (ClassifierMetrics(data.images), _grid)
    return SampleMetrics(fn, data.latent, seed, measure, plot)


def describe(source: str) -> str:
    """A line for the report on how samples are measured, for a `data.source`."""
    return f"measured by {NUM_SAMPLES:,} samples{': modes of 25' if source == 'grid' else ' and a classifier trained here'}"


def _modes(samples: np.ndarray) -> dict[str, float]:
    return generative.mode_coverage(samples, mixtures.GRID_CENTRES, mixtures.GRID_STD)


def _scatter(path: Path, samples: np.ndarray) -> None:
    images.save_scatter(path, samples, mixtures.GRID_CENTRES)


def _grid(path: Path, samples: np.ndarray) -> None:
    tiles = images.grid(np.pad(samples[:100], ((0, 0), (1, 1), (1, 1), (0, 0))), 10)
    images.save_png(path, tiles, scale=max(1, 400 // len(tiles)))


class ClassifierMetrics:
    """Metrics of samples by a classifier: inception-style score, Fréchet distance, number of predicted classes.

    Raises UserError if the data has no validation images.
    """

    def __init__(self, data: labelled.Images):
        if data.valid is None:
            raise UserError(
                "samples are compared with the validation images, and there are none; set data.valid_fraction above 0"
            )
        self._data, self._params = data, None
        self._model = ConvNet(num_classes=len(data.classes), hidden=128)
        self._jitted_features = jax.jit(self._features)

    def _prepare(self) -> None:
        """Trains the classifier, on the first call only, because showing or exporting an experiment does not need it."""
        data = self._data
        self._params = _train(self._model, data)
        held_out = data.valid.gather(np.arange(min(len(data.valid), NUM_SAMPLES)), 0)
        features, probabilities = self._jitted_features(self._params, held_out["image"])
        self._accuracy = float((probabilities.argmax(-1) == held_out["label"]).mean())
        self._moments = generative.moments(features)
        self._real_score, _ = generative.inception_score(probabilities)

    def _features(self, params: Any, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """f32[B, Y, X, C] -> hidden features f32[B, 128] and class probabilities f32[B, N]."""
        logits, captured = self._model.apply({"params": params}, image, capture_intermediates=True)
        hidden = jax.nn.relu(captured["intermediates"]["hidden"]["__call__"][0])
        return hidden, jax.nn.softmax(logits)

    def __call__(self, samples: np.ndarray) -> dict[str, float]:
        if self._params is None:
            self._prepare()
        features, probabilities = self._jitted_features(self._params, samples)
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
    """The classifier's parameters after JUDGE_STEPS of Adam; deterministic for the same data."""
    batches = TrainBatches(data.train, JUDGE_BATCH, seed=0)
    tx = optim.make({**config.OPTIM, "peak_lr": 2e-3}, JUDGE_STEPS)
    single_device = mesh.make_mesh({"data": 1}, jax.local_devices()[:1])

    def loss(params, model_state, batch, key):
        terms, metrics = cross_entropy(model.apply({"params": params}, batch["image"]), batch["label"])
        return terms, (metrics, model_state)

    with jax.set_mesh(single_device):
        train_step = make_train_step(loss, tx)
        train_state = state.create(lambda key: model.init(key, jnp.zeros((1, *data.shape))), tx, 0, single_device)
        for batch in batches.on_device(single_device, 0, JUDGE_STEPS):
            train_state, _ = train_step(train_state, batch)
    return jax.device_get(train_state.params)

"""How good samples are: mode coverage of the grid; of pictures, the predictions of a classifier that is trained here.

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
from research.data.latents import Latents
from research.data.pipeline import TrainBatches
from research.data.synthetic import mixtures
from research.evals import generative, images
from research.losses.classification import cross_entropy
from research.models.vision.convnet import ConvNet
from research.util.errors import UserError

NUM_SAMPLES = 2_500  # as PacGAN's evaluation
JUDGE_STEPS, JUDGE_BATCH = 800, 64


class SampleMetrics:
    """The evaluator. `measure` and `plot` are of NUM_SAMPLES samples, those of `measure` always from the same latent vectors."""

    def __init__(self, fn: Callable, latent: int, seed: int, measure: Callable, plot: Callable):
        self._key, self._latent = jax.random.fold_in(jax.random.key(seed), 1), latent
        self._fn, self._measure, self._plot = jax.jit(fn), measure, plot

    def __call__(self, state: Any, split: str, folder: Path) -> Evaluated:
        return Evaluated(self._measure(self._samples(state, self._key)), {"samples.png": partial(self.draw, state)})

    def draw(self, state: Any, path: Path, key: jax.Array | None = None) -> None:
        """Writes a picture of samples, of those that are measured unless there is a key."""
        self._plot(path, self._samples(state, self._key if key is None else key))

    def _samples(self, state: Any, key: jax.Array) -> np.ndarray:
        z = jax.random.normal(key, (NUM_SAMPLES, self._latent))
        return np.asarray(self._fn(state.variables, {"z": z})["x"], np.float32)


def make(fn: Callable, data: Latents, seed: int) -> SampleMetrics:
    """`fn`: (variables, {"z": f32[B, Z]}) -> {"x": f32[B, ...]}."""
    measure, plot = (_modes, _scatter) if data.images is None else (ClassifierMetrics(data.images), _grid)
    return SampleMetrics(fn, data.latent, seed, measure, plot)


def describe(source: str) -> str:
    """A line for the report: by what the samples of such data are measured."""
    return f"measured by {NUM_SAMPLES:,} samples{': modes of 25' if source == 'grid' else ' and a classifier trained here'}"


def _modes(samples: np.ndarray) -> dict[str, float]:
    return generative.mode_coverage(samples, mixtures.GRID_CENTRES, mixtures.GRID_STD)


def _scatter(path: Path, samples: np.ndarray) -> None:
    images.save_scatter(path, samples, mixtures.GRID_CENTRES)


def _grid(path: Path, samples: np.ndarray) -> None:
    tiles = images.grid(np.pad(samples[:100], ((0, 0), (1, 1), (1, 1), (0, 0))), 10)
    images.save_png(path, tiles, scale=max(1, 400 // len(tiles)))


class ClassifierMetrics:
    """Metrics of samples by a classifier: inception-style score, Fréchet distance, number of classes."""

    def __init__(self, data: labelled.Images):
        if data.valid is None:
            raise UserError(
                "samples are compared with the validation images, and there are none; set data.valid_fraction above 0"
            )
        self._data, self._params = data, None
        self._model = ConvNet(num_classes=len(data.classes), hidden=128)
        self._jitted_features = jax.jit(self._features)

    def _prepare(self) -> None:
        """Trains the classifier when it is first used: showing or exporting an experiment needs none."""
        data = self._data
        self._params = _train(self._model, data)
        held_out = data.valid.gather(np.arange(min(len(data.valid), NUM_SAMPLES)), 0)
        features, probabilities = self._jitted_features(self._params, held_out["image"])
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
    """The classifier's parameters after JUDGE_STEPS of Adam; always the same for the same data."""
    batches = TrainBatches(data.train, JUDGE_BATCH, seed=0)
    tx = optim.make({**config.OPTIM, "peak_lr": 2e-3}, JUDGE_STEPS)
    one = mesh.make_mesh({"data": 1}, jax.local_devices()[:1])

    def loss(params, model_state, batch, key):
        terms, metrics = cross_entropy(model.apply({"params": params}, batch["image"]), batch["label"])
        return terms, (metrics, model_state)

    with jax.set_mesh(one):
        train_step = make_train_step(loss, tx)
        now = state.create(lambda key: model.init(key, jnp.zeros((1, *data.shape))), tx, 0, one)
        for batch in batches.on_device(one, 0, JUDGE_STEPS):
            now, _ = train_step(now, batch)
    return jax.device_get(now.params)

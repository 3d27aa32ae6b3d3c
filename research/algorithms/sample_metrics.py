"""Metrics of sampled images by a classifier that is trained here, the same for every family that generates images.

The classifier is a small convolutional network, trained on the same training images from a fixed seed; its accuracy on the
held-out images is logged with its metrics. Distances are between its hidden features of samples and of held-out images, and are
comparable only with other values of this function on the same data: they are not the FID of Inception features.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.core import config, mesh, optim, state
from research.core.step import make_train_step
from research.data.images import labelled
from research.data.pipeline import TrainBatches
from research.evals import generative
from research.losses.classification import cross_entropy
from research.models.vision.convnet import ConvNet
from research.util.errors import UserError

MOST = 10_000  # samples, and images of a part
JUDGE_STEPS, JUDGE_BATCH = 800, 64
CHUNK = 1_000  # images whose features are computed at once
QUALITY, QUALITY_TEST = "quality", "quality_test"  # splits: samples against validation images, and against test images


METRICS = tuple(f"{name}{of}" for name in ("frechet", "precision", "recall") for of in ("", "_of_train"))
METRICS += ("score", "score_of_real", "classes", "judge_accuracy")


class ClassifierMetrics:
    """Metrics of `count` samples: as many as there are training images, MOST at the most.

    The training images themselves are measured, too (`..._of_train`): what a generator reaches that repeats them, and a floor
    which has the same number of images on either side. Raises UserError if the data has no validation images.
    """

    def __init__(self, data: labelled.Images):
        if data.valid is None:
            raise UserError(
                "samples are compared with the validation images, and there are none; set data.valid_fraction above 0"
            )
        self._parts = {QUALITY: data.valid} | ({} if data.test is None else {QUALITY_TEST: data.test})
        self._data, self._model = data, judge(data)
        self._jitted_features = jax.jit(self._features)
        self._held_out, self._of_train = functools.cache(self._measure_held_out), functools.cache(self._measure_train)

    @property
    def splits(self) -> list[str]:
        return list(self._parts)

    @property
    def count(self) -> int:
        return min(MOST, len(self._data.train))

    def __call__(self, samples: np.ndarray, split: str = QUALITY) -> dict[str, float]:
        """Samples f32[n, Y, X, C] in 0..1 -> {metric: value}.

        frechet            squared Fréchet distance of the features from the held-out images' (`generative.frechet_distance`)
        precision, recall  of the nearest neighbours' manifolds (`generative.precision_recall`)
        score              inception-style score of the class probabilities, and `score_of_real` of the held-out images
        classes            that some sample is predicted to have
        judge_accuracy     of the classifier on the held-out images
        """
        real, probabilities_of_real, accuracy = self._held_out(split)
        features, probabilities = self._embedded(samples)
        values = self._distances(features, real) | {
            f"{name}_of_train": value for name, value in self._of_train(split).items()
        }
        counts = np.bincount(probabilities.argmax(-1), minlength=probabilities.shape[-1])
        return values | {
            "score": generative.inception_score(probabilities)[0],
            "score_of_real": generative.inception_score(probabilities_of_real)[0],
            "classes": float((counts > 0).sum()),
            "judge_accuracy": accuracy,
        }

    @functools.cached_property
    def _params(self) -> Any:
        """Trained when they are first needed, because showing or exporting an experiment does not need them."""
        return trained_judge(self._model, self._data)

    def _measure_held_out(self, split: str) -> tuple[np.ndarray, np.ndarray, float]:
        """-> features and class probabilities of a held-out part, and the classifier's accuracy on it."""
        part = self._parts[split]
        batch = part.gather(np.arange(min(len(part), MOST)), 0)
        features, probabilities = self._embedded(batch["image"])
        return features, probabilities, float((probabilities.argmax(-1) == batch["label"]).mean())

    def _measure_train(self, split: str) -> dict[str, float]:
        images = self._data.train.gather(np.arange(self.count), 0)["image"]
        return self._distances(self._embedded(images)[0], self._held_out(split)[0])

    def _distances(self, features: np.ndarray, real: np.ndarray) -> dict[str, float]:
        distance = generative.frechet_distance(*generative.moments(features), *generative.moments(real))
        return {"frechet": distance, **generative.precision_recall(real, features)}

    def _embedded(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f32[n, Y, X, C] -> hidden features f32[n, 128] and class probabilities f32[n, N]."""
        chunks = [self._jitted_features(self._params, images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
        features, probabilities = (np.concatenate(part) for part in zip(*jax.device_get(chunks), strict=True))
        return features, probabilities

    def _features(self, params: Any, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, captured = self._model.apply({"params": params}, image, capture_intermediates=True)
        hidden = jax.nn.relu(captured["intermediates"]["hidden"]["__call__"][0])
        return hidden, jax.nn.softmax(logits)


def judge(data: labelled.Images) -> ConvNet:
    """The classifier's network."""
    return ConvNet(num_classes=len(data.classes), hidden=128)


def trained_judge(model: ConvNet, data: labelled.Images) -> Any:
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

"""Samples measured by a classifier: the training images score their own floor, noise and one class alone score worse."""

import dataclasses

import numpy as np
import pytest

from research.algorithms import sample_metrics
from research.data.images import labelled
from research.util.errors import UserError


@pytest.fixture(scope="module")
def images():
    return labelled.load({"source": "digits"})


def test_better_samples_score_better(images, monkeypatch):
    monkeypatch.setattr(sample_metrics, "JUDGE_STEPS", 100)
    metrics = sample_metrics.ClassifierMetrics(images)
    assert (metrics.count, metrics.splits) == (len(images.train), ["quality", "quality_test"])
    train = images.train.gather(np.arange(metrics.count), 0)
    own = metrics(train["image"], "quality_test")
    for name in ("frechet", "precision", "recall"):
        assert own[name] == own[f"{name}_of_train"]
    assert own["classes"] == 10 and own["judge_accuracy"] > 0.8

    one_class = np.resize(train["image"][train["label"] == 3], train["image"].shape)
    noise = np.random.default_rng(0).random(train["image"].shape, np.float32)
    of_one, of_noise = (metrics(samples, "quality_test") for samples in (one_class, noise))
    assert of_one["precision"] > 0.8 and of_one["recall"] < 0.5 < own["recall"]
    assert of_noise["precision"] < 0.5 and own["frechet"] < of_one["frechet"] and own["frechet"] < of_noise["frechet"]
    assert of_one["score"] < own["score"]


def test_samples_need_validation_images_to_be_compared_with(images):
    with pytest.raises(UserError, match="set data.valid_fraction above 0"):
        sample_metrics.ClassifierMetrics(dataclasses.replace(images, valid=None))
    alone = sample_metrics.ClassifierMetrics(dataclasses.replace(images, test=None))
    assert alone.splits == ["quality"]

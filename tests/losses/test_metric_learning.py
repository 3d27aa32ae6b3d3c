"""Losses of embeddings, against loops over the batch and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.losses import metric_learning

RNG = np.random.default_rng(0)


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def test_triplets_equal_a_loop():
    x, labels = unit(RNG.normal(size=(12, 5))), np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 4])
    got, weights = metric_learning.triplet(x, labels, margin=0.5)
    for a in range(12):
        distances = np.linalg.norm(x[a] - x, axis=1)
        positive = [distances[i] for i in range(12) if labels[i] == labels[a] and i != a]
        negative = [distances[i] for i in range(12) if labels[i] != labels[a]]
        want = max(0.0, 0.5 + max(positive) - min(negative)) if positive else 0.0
        assert float(got[a]) == pytest.approx(want, abs=1e-5)
        assert float(weights[a]) == bool(positive)


def test_a_batch_of_one_class_has_no_triplet():
    losses, weights = metric_learning.triplet(unit(RNG.normal(size=(4, 3))), np.zeros(4, np.int32), margin=0.5)
    assert not losses.any() and not weights.any()


def test_equal_embeddings_have_a_finite_gradient():
    x = jnp.ones((4, 2)) / np.sqrt(2)
    labels = jnp.array([0, 0, 1, 1])
    gradient = jax.grad(lambda x: metric_learning.triplet(x, labels, 0.2)[0].sum())(x)
    assert jnp.isfinite(gradient).all()


def test_the_margin_is_added_to_the_angle():
    angles = np.array([[0.3, 1.0, 2.0], [2.5, 0.7, 1.1]])
    got = metric_learning.arcface_logits(np.cos(angles).astype(np.float32), np.array([1, 2]), margin=0.4, scale=8.0)
    want = np.cos([[0.3, 1.4, 2.0], [2.5, 0.7, 1.5]]) * 8
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_beyond_pi_the_logit_still_falls():
    angles = np.linspace(2.0, np.pi, 50)
    cosines = np.cos(angles)[:, None].astype(np.float32)
    got = metric_learning.arcface_logits(cosines, np.zeros(50, np.int32), margin=0.5, scale=1.0)[:, 0]
    assert (np.diff(got) <= 1e-6).all()
    assert float(got[-1]) == pytest.approx(-1 - 0.5 * np.sin(0.5), abs=1e-5)


def test_the_ends_have_a_finite_gradient():
    labels = jnp.array([0, 0])
    gradient = jax.grad(lambda c: metric_learning.arcface_logits(c, labels, 0.5, 1.0).sum())(jnp.array([[1.0], [-1.0]]))
    assert jnp.isfinite(gradient).all()

from math import exp, log

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.utils.class_weight import compute_class_weight

from research.losses import classification, language
from research.util.errors import UserError
from tests.losses.as_scalar import as_scalar

# softmax(log [1, 2, 5]) = [1, 2, 5] / 8
LOGITS = jnp.log(jnp.array([[1.0, 2.0, 5.0], [5.0, 2.0, 1.0]]))
LABELS = jnp.array([2, 1])

of_labels, of_tokens = as_scalar(classification.cross_entropy), as_scalar(language.cross_entropy)


def random(*shape):
    return 3 * np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_integer_labels_by_hand():
    scalar, metrics = of_labels(LOGITS, LABELS)
    assert float(scalar) == pytest.approx((log(8 / 5) + log(8 / 2)) / 2)
    assert [float(v) for v in metrics["loss"]] == pytest.approx([log(8 / 5) + log(4), 2])
    assert [float(v) for v in metrics["accuracy"]] == [1, 2]


def test_soft_labels_by_hand():
    soft = jnp.array([[0.25, 0.0, 0.75], [0.0, 1.0, 0.0]])
    scalar, metrics = of_labels(LOGITS, soft)
    expected = 0.25 * log(8) + 0.75 * log(8 / 5) + log(4)
    assert float(metrics["loss"][0]) == pytest.approx(expected)
    assert float(scalar) == pytest.approx(expected / 2)
    assert float(metrics["accuracy"][0]) == 1


@pytest.mark.parametrize("labels", [LABELS, jax.nn.one_hot(LABELS, 3)])
def test_a_mask_removes_rows(labels):
    scalar, metrics = of_labels(LOGITS, labels, jnp.array([0.0, 1.0]))
    assert float(scalar) == pytest.approx(log(4))
    assert [float(v) for v in metrics["accuracy"]] == [0, 1]
    nothing, metrics = of_labels(LOGITS, labels, jnp.zeros(2))
    assert float(nothing) == 0 and float(metrics["loss"][1]) == 0


def test_class_weights_by_hand():
    """Labels 2 and 1 of weights 3 and 1: (3 ln 8/5 + ln 4) / 4. The metrics have no weights."""
    scalar, metrics = of_labels(LOGITS, LABELS, class_weights=jnp.array([7.0, 1.0, 3.0]))
    assert float(scalar) == pytest.approx((3 * log(8 / 5) + log(4)) / 4)
    assert [float(v) for v in metrics["loss"]] == pytest.approx([log(8 / 5) + log(4), 2])
    masked, _ = of_labels(LOGITS, LABELS, jnp.array([0.0, 1.0]), class_weights=jnp.array([7.0, 1.0, 3.0]))
    assert float(masked) == pytest.approx(log(4))


def test_class_weights_are_torchs():
    torch = pytest.importorskip("torch")
    logits, labels = random(40, 3), np.random.default_rng(2).integers(3, size=40)
    weights = classification.balanced_weights(labels, 3)
    theirs = torch.nn.CrossEntropyLoss(weight=torch.tensor(weights))(torch.tensor(logits), torch.tensor(labels))
    ours, _ = jax.jit(of_labels)(logits, labels, class_weights=jnp.asarray(weights))
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-6)


def test_balanced_weights_are_scikit_learns():
    labels = np.array([2, 0, 2, 2, 0, 2])
    theirs = compute_class_weight("balanced", classes=np.array([0, 2]), y=labels)
    weights = classification.balanced_weights(labels, 2 + 1)
    np.testing.assert_allclose(weights[[0, 2]], theirs * 2 / 3, rtol=1e-6)  # theirs counts two classes, ours three
    assert weights[1] == 0  # of a class without examples
    np.testing.assert_allclose(
        classification.balanced_weights(labels // 2, 2),
        compute_class_weight("balanced", classes=np.arange(2), y=labels // 2),
    )


def test_equals_optax():
    logits, labels = random(64, 10), jnp.arange(64) % 10
    soft = jnp.float32(np.random.default_rng(1).dirichlet(np.ones(10), 64))
    for ours, theirs in (
        (lambda x: of_labels(x, labels)[0],
         lambda x: optax.softmax_cross_entropy_with_integer_labels(x, labels).mean()),
        (lambda x: of_labels(x, soft)[0],
         lambda x: optax.softmax_cross_entropy(x, soft).mean()),
    ):  # fmt: skip
        value, grads = jax.jit(jax.value_and_grad(ours))(logits)
        expected, expected_grads = jax.jit(jax.value_and_grad(theirs))(logits)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_allclose(grads, expected_grads, atol=1e-7)


def test_pixels_are_masked_by_rows():
    logits, labels = random(2, 3, 4, 5), np.zeros((2, 3, 4), int)
    loss = jax.jit(of_labels)
    scalar, metrics = loss(logits, labels, jnp.array([0.0, 1.0]))
    alone, _ = loss(logits[1:], labels[1:])
    np.testing.assert_allclose(scalar, alone, rtol=1e-6)
    assert float(metrics["loss"][1]) == 12


def test_tokens_equal_optax_under_a_mask():
    logits, targets = random(4, 8, 50), np.arange(32).reshape(4, 8)
    mask = (np.arange(8) < np.array([8, 5, 1, 0])[:, None]).astype(np.float32)
    loss = jax.jit(of_tokens)
    scalar, metrics = loss(logits, targets, mask)
    each = jax.jit(optax.softmax_cross_entropy_with_integer_labels)(logits, targets)
    np.testing.assert_allclose(scalar, (each * mask).sum() / 14, rtol=1e-6)
    assert float(metrics["loss"][1]) == 14
    hits = (logits.argmax(-1) == targets) * mask
    assert float(metrics["accuracy"][0]) == hits.sum()
    rows = loss(logits, targets, np.array([1.0, 0, 0, 0]))[1]["loss"]
    np.testing.assert_allclose(rows[0], each[0].sum(), rtol=1e-6)
    assert float(rows[1]) == 8


def test_label_smoothing_changes_the_scalar_and_not_the_metric():
    scalar, metrics = of_tokens(LOGITS[:, None], LABELS[:, None], smoothing=0.3)
    plain = (log(8 / 5) + log(4)) / 2
    assert float(metrics["loss"][0]) / 2 == pytest.approx(plain)
    uniform = (log(8) + log(8 / 2) + log(8 / 5)) / 3
    assert float(scalar) == pytest.approx(0.7 * plain + 0.3 * uniform)


@pytest.mark.parametrize("loss", [of_labels, of_tokens])
def test_large_logits_give_finite_gradients(loss):
    logits = jnp.array([[[1e4, -1e4, 0.0], [-3e38, 3e38, 0.0]]])
    targets = jnp.array([[1, 1]])
    value, grads = jax.jit(jax.value_and_grad(lambda x: loss(x, targets)[0]))(logits)
    assert float(value) == 1e4  # (2e4 + 0) / 2
    np.testing.assert_allclose(grads, [[[0.5, -0.5, 0], [0, 0, 0]]], atol=1e-7)


def test_bfloat16_logits_are_summed_in_float32():
    logits = jnp.zeros((1, 1, 1000), jnp.bfloat16)
    scalar, _ = of_tokens(logits, jnp.zeros((1, 1), int))
    assert scalar.dtype == jnp.float32
    assert exp(float(scalar)) == pytest.approx(1000, rel=1e-4)


@pytest.mark.parametrize("shape", [(5,), (4, 1), (1,), (1, 5)])
def test_weights_are_of_the_first_axes_or_of_all(shape):
    with pytest.raises(UserError, match=r"for values of \[4, 5\]"):
        classification.weighted({"loss": jnp.ones((4, 5))}, jnp.ones(shape))

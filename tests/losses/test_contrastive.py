import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import mesh
from research.losses import contrastive, spans
from tests.losses.as_scalar import as_scalar

in_batch_negatives = as_scalar(contrastive.in_batch_negatives)
nt_xent = as_scalar(contrastive.nt_xent)
span_cross_entropy = as_scalar(spans.span_cross_entropy)


def nll(scores, own):
    return math.log(sum(math.exp(s) for s in scores)) - scores[own]


def test_equation_2_by_hand():
    q = jnp.array([[1.0, 0], [0, 2], [1, 1]])
    p = jnp.array([[2.0, 1], [1, 0], [0, 3]])
    rows = [[2, 1, 0], [2, 0, 6], [3, 1, 3]]  # inner products
    loss, metrics = in_batch_negatives(q, p, jnp.array([4, 5, 6]))
    assert float(loss) == pytest.approx(sum(nll(row, i) for i, row in enumerate(rows)) / 3, rel=1e-6)
    assert [float(x) for x in metrics["accuracy"]] == [1, 3]  # the third has a tie, and argmax takes the first


def test_the_same_passage_in_two_rows_is_no_negative():
    q = jnp.array([[1.0, 0], [0, 2], [1, 1]])
    p = jnp.array([[2.0, 1], [1, 0], [2, 1]])
    loss, _ = in_batch_negatives(q, p, jnp.array([4, 5, 4]))
    want = [nll([2, 1], 0), nll([2, 0, 2], 1), nll([1, 3], 1)]
    assert float(loss) == pytest.approx(sum(want) / 3, rel=1e-6)
    grads = jax.grad(lambda p: in_batch_negatives(q[:1], p, jnp.array([4]))[0])(p[:1])
    np.testing.assert_array_equal(grads, 0)  # alone there is nothing to learn


def test_rows_that_fill_up_the_last_batch_take_no_part():
    q, p = jnp.array([[1.0, 0], [0, 2], [5, 5]]), jnp.array([[2.0, 1], [1, 0], [9, 9]])
    loss, metrics = in_batch_negatives(q, p, jnp.array([4, 5, 6]), jnp.array([1.0, 1, 0]))
    assert float(loss) == pytest.approx((nll([2, 1], 0) + nll([2, 0], 1)) / 2, rel=1e-6)
    assert float(metrics["loss"][1]) == 2


def test_span_loss_by_hand():
    start, end = jnp.log(jnp.array([[1.0, 2, 1], [1, 1, 2]])), jnp.log(jnp.array([[1.0, 1, 6], [4, 2, 2]]))
    loss, metrics = span_cross_entropy(start, end, jnp.array([1, 0]), jnp.array([2, 0]))
    want = [(math.log(4 / 2) + math.log(8 / 6)) / 2, (math.log(4) + math.log(8 / 4)) / 2]
    assert float(loss) == pytest.approx(sum(want) / 2, rel=1e-6)
    assert [float(x) for x in metrics["accuracy"]] == [1, 2]
    masked, metrics = span_cross_entropy(start, end, jnp.array([1, 0]), jnp.array([2, 0]), jnp.array([0.0, 1]))
    assert float(masked) == pytest.approx(want[1], rel=1e-6) and float(metrics["accuracy"][1]) == 1


def nt_xent_by_loops(first, second, temperature):
    """Chen et al. 2020, equation 1 and algorithm 1: pairs (2k - 1, 2k) of 2 N views."""
    z = np.stack([first, second], 1).reshape(-1, first.shape[-1]).astype(np.float64)
    cosine = lambda i, j: z[i] @ z[j] / np.linalg.norm(z[i]) / np.linalg.norm(z[j])  # noqa: E731
    total, found = 0.0, 0
    for i in range(len(z)):
        scores = {j: cosine(i, j) / temperature for j in range(len(z)) if j != i}
        total -= scores[i ^ 1] - math.log(sum(map(math.exp, scores.values())))
        found += max(scores, key=scores.get) == i ^ 1
    return total / len(z), found / len(z)


def test_nt_xent_equals_the_papers_loops():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(6, 3)).astype(np.float32)
    second = (first + rng.normal(size=(6, 3))).astype(np.float32)
    want, found = nt_xent_by_loops(first, second, 0.3)
    loss, metrics = nt_xent(first, second, 0.3)
    assert float(loss) == pytest.approx(want, rel=1e-5)
    assert float(metrics["contrastive_accuracy"][0]) / 6 == pytest.approx(found) and 0 < found < 1


def test_nt_xent_leaves_out_rows_that_fill_up_a_batch():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 5, 3)).astype(np.float32)
    loss, metrics = nt_xent(first, second, 0.5, jnp.array([1.0, 1, 1, 0, 0]))
    assert float(loss) == pytest.approx(nt_xent_by_loops(first[:3], second[:3], 0.5)[0], rel=1e-5)
    assert float(metrics["loss"][1]) == 3


def test_nt_xents_negatives_are_those_of_all_devices():
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, 16, 4)).astype(np.float32)
    devices = mesh.make_mesh({"data": 8}, jax.devices()[:8])
    with jax.set_mesh(devices):
        rows = mesh.to_device({"first": first, "second": second}, devices, 16)
        loss, gradient = jax.jit(jax.value_and_grad(lambda x: nt_xent(x, rows["second"], 0.2)[0]))(rows["first"])
    assert float(loss) == pytest.approx(nt_xent_by_loops(first, second, 0.2)[0], rel=1e-5)
    alone = jax.grad(lambda x: nt_xent(x, second, 0.2)[0])(first)
    np.testing.assert_allclose(gradient, alone, atol=1e-6)

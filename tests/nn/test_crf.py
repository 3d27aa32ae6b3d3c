"""The linear-chain CRF against enumeration of all paths."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from research.nn import crf
from research.nn.crf import Chain

rng = np.random.default_rng(0)


def chain(N):
    return Chain(*(rng.normal(size=shape).astype(np.float32) for shape in ((N,), (N, N), (N,))))


def paths(logits, chain):
    """Every path of one row, and its score."""
    T, N = logits.shape
    every = list(itertools.product(range(N), repeat=T))
    scores = [
        chain.start[path[0]]
        + sum(logits[t, label] for t, label in enumerate(path))
        + sum(chain.transitions[a, b] for a, b in itertools.pairwise(path))
        + chain.end[path[-1]]
        for path in every
    ]
    return every, np.array(scores)


@pytest.mark.parametrize("T, N", [(1, 1), (1, 4), (2, 3), (4, 3), (5, 2), (3, 5)])
def test_it_is_what_enumeration_gives(T, N):
    logits, scores = rng.normal(size=(2, T, N)).astype(np.float32), chain(N)
    labels, inside = rng.integers(0, N, (2, T)), np.ones((2, T), bool)
    best, best_score = crf.viterbi(logits, inside, scores)
    log_z = crf.log_partition(logits, inside, scores)
    marginals = crf.marginals(logits, inside, scores)
    likelihood = crf.negative_log_likelihood(logits, labels, inside, scores)
    for row in range(2):
        every, values = paths(logits[row], scores)
        p = np.exp(values - logsumexp(values))
        assert float(log_z[row]) == pytest.approx(logsumexp(values), rel=1e-5)
        assert tuple(best[row].tolist()) == every[values.argmax()]
        assert float(best_score[row]) == pytest.approx(values.max(), rel=1e-5)
        assert float(likelihood[row]) == pytest.approx(-np.log(p[every.index(tuple(labels[row]))]), rel=1e-4, abs=1e-5)
        for t, label in itertools.product(range(T), range(N)):
            want = sum(q for path, q in zip(every, p, strict=True) if path[t] == label)
            assert float(marginals[row, t, label]) == pytest.approx(want, abs=1e-5)


def test_the_chain_runs_over_the_positions_inside():
    """Of a row with gaps and padding it gives what it gives for the row without them."""
    N, inside = 3, np.array([[0, 1, 0, 0, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0]], bool)
    logits, scores, labels = rng.normal(size=(3, 7, N)).astype(np.float32), chain(N), rng.integers(0, N, (3, 7))
    best, best_score = crf.viterbi(logits, inside, scores)
    marginals = crf.marginals(logits, inside, scores)
    likelihood = crf.negative_log_likelihood(logits, labels, inside, scores)
    for row, kept in enumerate(inside):
        short = (logits[row, kept][None], np.ones((1, kept.sum()), bool))
        alone, alone_score = crf.viterbi(*short, scores)
        assert best[row, kept].tolist() == alone[0].tolist() and best_score[row] == pytest.approx(alone_score[0])
        assert not best[row, ~kept].any() and not marginals[row, ~kept].any()
        np.testing.assert_allclose(marginals[row, kept], crf.marginals(*short, scores)[0], atol=1e-6)
        want = crf.negative_log_likelihood(short[0], labels[row, kept][None], short[1], scores)[0]
        assert float(likelihood[row]) == pytest.approx(float(want), rel=1e-5)


def test_a_row_without_positions_has_the_empty_path():
    logits, scores, none = np.ones((1, 3, 2), np.float32), chain(2), np.zeros((1, 3), bool)
    labels = np.zeros((1, 3), np.int32)
    assert float(crf.negative_log_likelihood(logits, labels, none, scores)[0]) == 0
    assert [x.tolist() for x in crf.viterbi(logits, none, scores)] == [[[0, 0, 0]], [0.0]]
    gradient = jax.grad(lambda c: crf.negative_log_likelihood(logits, labels, none, c).sum())(scores)
    assert not any(np.asarray(leaf).any() for leaf in gradient)


def test_without_transitions_it_is_a_softmax():
    logits, labels, inside = rng.normal(size=(2, 4, 3)), rng.integers(0, 3, (2, 4)), np.ones((2, 4), bool)
    zero = crf.CRF(3).init_with_output(jax.random.key(0))[0]
    want = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), labels[..., None], 2).sum((1, 2))
    loss = crf.negative_log_likelihood(jnp.asarray(logits), labels, inside, zero)
    np.testing.assert_allclose(loss, want, rtol=1e-5)
    assert crf.viterbi(jnp.asarray(logits), inside, zero)[0].tolist() == logits.argmax(-1).tolist()


@pytest.mark.parametrize("scale", [1, 1e4])
def test_gradients_are_finite_and_those_of_differences(scale):
    """The gradient in the transitions is expected minus observed counts: it sums to 0 over the labels."""
    N, inside = 3, np.array([[1, 1, 0, 1], [1, 0, 0, 0]], bool)
    logits, scores, labels = scale * rng.normal(size=(2, 4, N)), chain(N), rng.integers(0, N, (2, 4))
    loss = lambda logits, scores: crf.negative_log_likelihood(logits, labels, inside, scores).sum()  # noqa: E731
    by_logits, by_chain = jax.grad(loss, (0, 1))(jnp.asarray(logits, jnp.float32), scores)
    for gradient in (by_logits, *by_chain):
        assert np.isfinite(gradient).all() and float(gradient.sum()) == pytest.approx(0, abs=1e-4)


def test_it_is_exported_for_any_batch_and_length():
    scores = chain(3)

    def both(logits, inside):
        return crf.viterbi(logits, inside, scores)[0], crf.marginals(logits, inside, scores)

    b, t = jax.export.symbolic_shape("b, t")
    shapes = (jax.ShapeDtypeStruct((b, t, 3), jnp.float32), jax.ShapeDtypeStruct((b, t), bool))
    exported = jax.export.export(jax.jit(both))(*shapes)
    for B, T in ((1, 1), (3, 5)):
        inputs = (jnp.asarray(rng.normal(size=(B, T, 3)), jnp.float32), jnp.asarray(rng.random((B, T)) < 0.7))
        for got, want in zip(exported.call(*inputs), both(*inputs), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-6)

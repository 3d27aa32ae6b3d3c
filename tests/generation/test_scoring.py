import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.generation.scoring import log_likelihoods
from research.models.text.gpt import GPT
from research.util.errors import UserError


class Chain:
    """The next token's probabilities are a row of the matrix, whatever came before the last."""

    max_length, vocab_size = 5, 3
    rows = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.4, 0.4, 0.2]])

    def apply(self, variables, tokens):
        return jnp.log(jnp.asarray(self.rows, jnp.float32))[tokens]


def test_by_hand():
    contexts = [[0], [0, 1], [2, 2, 2, 2, 2, 2, 1]]  # the last loses its beginning
    continuations = [[1], [2, 0, 0], [2, 2]]
    want = np.log([0.25, 0.7 * 0.4 * 0.5, 0.7 * 0.2])
    np.testing.assert_allclose(log_likelihoods(Chain(), {}, contexts, continuations), want, rtol=1e-6)
    roomy = log_likelihoods(Chain(), {}, contexts, continuations, room=9)
    np.testing.assert_allclose(roomy, want, rtol=1e-6)
    every = log_likelihoods(Chain(), {}, [[0]] * 9, [[a, b] for a in range(3) for b in range(3)])
    assert np.exp(every).sum() == pytest.approx(1)


def test_rows_of_any_length_equal_each_alone():
    model = GPT(vocab_size=19, num_layers=1, num_heads=2, width=16, max_length=12)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 1), np.int32))
    rng = np.random.default_rng(3)
    variables = jax.tree.map(lambda a: np.float32(0.5 * rng.normal(size=a.shape)), shapes)
    contexts, continuations = [[1], [2, 3, 4], [5, 6]], [[7, 8, 9], [1], [3, 3]]
    got = log_likelihoods(model, variables, contexts, continuations)
    for i, (context, said) in enumerate(zip(contexts, continuations, strict=True)):
        logits = np.asarray(model.apply(variables, jnp.array([context + said])), np.float64)[0]
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        want = sum(logp[len(context) + j - 1, token] for j, token in enumerate(said))
        assert got[i] == pytest.approx(want, abs=1e-4)


@pytest.mark.parametrize(
    "contexts, continuations, words",
    [
        ([[]], [[1]], "pair 0: a context of 0 tokens"),
        ([[1]], [[]], "a continuation of 0"),
        ([[1]], [[1] * 6], "a continuation of 6 tokens, and the model reads 5"),
        ([[1]], [[3]], "outside the vocabulary, 0..2"),
    ],
)
def test_bad_arguments(contexts, continuations, words):
    with pytest.raises(UserError, match=words):
        log_likelihoods(Chain(), {}, contexts, continuations)

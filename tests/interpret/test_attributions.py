"""The axioms of Sundararajan et al. 2017, on models whose answer is known by hand, and on the classifiers of texts."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.interpret.attributions import gradient_x_input, integrated_gradients, tapped
from research.models.text import text_transformer
from research.models.text.text_cnn import TextCNN
from research.models.text.text_ngrams import TextNGrams
from research.models.text.text_recurrent import TextRecurrent
from research.util.errors import UserError

TOKENS = np.array([[1, 2, 3, 4], [3, 3, 0, 5]])
TABLE = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
WEIGHTS = np.array([1.0, -2.0, 0.5], np.float32)


class Hand(nn.Module):
    """A score of embeddings by a function of the test's."""

    score: object

    @nn.compact
    def __call__(self, tokens):
        return self.score(nn.Embed(7, 3, name="tokens")(tokens))


def scored(score, tokens=TOKENS):
    return lambda: Hand(score).apply({"params": {"tokens": {"embedding": TABLE}}}, tokens)


def test_a_linear_score_is_parted_exactly():
    expected = TABLE[TOKENS] @ WEIGHTS
    linear = scored(lambda x: (x @ WEIGHTS).sum(1) + 3)
    np.testing.assert_allclose(gradient_x_input(linear).tokens, expected, atol=1e-6)
    found = integrated_gradients(linear, steps=1)
    np.testing.assert_allclose(found.tokens, expected, atol=1e-6)
    np.testing.assert_allclose(found.score, expected.sum(1) + 3, rtol=1e-5)
    np.testing.assert_allclose(found.baseline, [3, 3], rtol=1e-6)


def test_a_square_by_hand():
    """Of x^2 gradient x input is 2 x^2, the integral from 0 is x^2."""
    square = scored(lambda x: (x**2).sum((1, 2)))
    squares = (TABLE[TOKENS] ** 2).sum(-1)
    np.testing.assert_allclose(gradient_x_input(square).tokens, 2 * squares, rtol=1e-5)
    np.testing.assert_allclose(integrated_gradients(square, 3).tokens, squares, rtol=1e-5)


def test_another_baseline():
    square = scored(lambda x: (x**2).sum((1, 2)))
    found = integrated_gradients(square, 4, baseline=0.5)
    np.testing.assert_allclose(found.tokens, (TABLE[TOKENS] ** 2 - 0.25).sum(-1), rtol=1e-4, atol=1e-5)


def curved(x):
    return jnp.tanh((x @ WEIGHTS)[:, 0] * x[:, 1, 0] + x[:, 2].sum(-1) ** 2)  # blind to the last token


def test_completeness_within_a_gap_that_shrinks_with_the_square_of_the_steps():
    gaps = [np.abs(integrated_gradients(scored(curved), steps).gap).max() for steps in (4, 16, 64)]
    assert gaps[2] < 2e-4 and gaps[1] < gaps[0] / 8 and gaps[2] < gaps[1] / 8, gaps
    found = integrated_gradients(scored(curved), 256)
    np.testing.assert_allclose(found.tokens.sum(1), found.score - found.baseline, atol=1e-5)


def test_sensitivity():
    """What the score does not depend on has exactly 0; a score that one token alone moves is all that token's."""
    assert not np.any(integrated_gradients(scored(curved), 8).tokens[:, 3])
    alone = integrated_gradients(scored(lambda x: jnp.tanh(x[:, 1] @ WEIGHTS)), 128)
    assert not np.any(np.delete(alone.tokens, 1, axis=1))
    np.testing.assert_allclose(alone.tokens[:, 1], alone.score - alone.baseline, atol=1e-4)
    assert np.abs(alone.tokens[:, 1]).min() > 1e-3


def test_implementation_invariance():
    """Two programs for one function: tanh y = 2 sigmoid(2 y) - 1."""
    ours = integrated_gradients(scored(lambda x: jnp.tanh(x @ WEIGHTS).prod(1)), 32).tokens
    other = integrated_gradients(scored(lambda x: (2 * nn.sigmoid(2 * (x * WEIGHTS).sum(-1)) - 1).prod(1)), 32).tokens
    np.testing.assert_allclose(ours, other, atol=1e-6)


def test_what_cannot_be_explained():
    with pytest.raises(UserError, match="has 0 embeddings called 'tokens'"):
        gradient_x_input(
            lambda: nn.Embed(7, 3, name="words").apply({"params": {"embedding": TABLE}}, TOKENS).sum((1, 2))
        )
    with pytest.raises(UserError, match="steps = 0"):
        integrated_gradients(scored(curved), 0)


V, N = 23, 3
TRANSFORMER = {"num_layers": 1, "num_heads": 2, "width": 16, "dropout": 0.0}
MODELS = {
    "recurrent": TextRecurrent(V, N, width=8, hidden=6),
    "cnn": TextCNN(V, N, width=8, maps=5),
    "ngrams": TextNGrams(V, N, width=8, order=2, buckets=64),
    "bert": text_transformer.make_bert(TRANSFORMER, V, N, 16),
    "gpt": text_transformer.make_gpt(TRANSFORMER, V, N, 16),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_classifiers_are_complete_and_owe_nothing_to_what_is_ignored(model):
    tokens, length = jnp.array([[5, 6, 7, 8, 0, 0], [9, 1, 0, 0, 0, 0]]), jnp.array([4, 2])
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens, length)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda a: np.float32(0.4 * rng.normal(size=a.shape)), shapes)

    def score():
        return jax.nn.softmax(model.apply(params, tokens, length))[:, 1]

    plain, embedded = tapped(score)
    assert embedded.shape[:2] == tokens.shape
    found = integrated_gradients(score, 48)
    np.testing.assert_allclose(found.score, plain, atol=1e-6)
    assert np.abs(found.score - found.baseline).max() > 1e-3
    assert np.abs(found.gap).max() < 0.02 * np.abs(found.score - found.baseline).max() + 2e-4
    for one in (found, gradient_x_input(score)):
        inside = np.arange(6) < length[:, None]
        assert np.all(np.asarray(one.tokens)[~inside] == 0)
        assert np.abs(np.asarray(one.tokens)[inside]).min() > 1e-8

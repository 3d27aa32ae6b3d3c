"""Samples drawn within a step: their tokens, ends and log-probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.generation import decoding
from research.generation.rollout import joined, rollout
from research.losses.preference import token_log_probs
from research.models.text.gpt import GPT

MODEL = GPT(vocab_size=7, max_length=12, num_layers=2, num_heads=2, width=16)
PROMPT, LENGTHS = jnp.array([[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 0, 0]]), jnp.array([3, 1, 2])


@pytest.fixture(scope="module")
def variables():
    variables = MODEL.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    return jax.tree.map(lambda x: 2 * x, variables)  # so that tokens are not all as likely


def keys(seed=0, rows=3):
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.arange(rows))


def test_the_most_probable_tokens_are_those_of_greedy_decoding(variables):
    drawn = rollout(MODEL, variables, PROMPT, LENGTHS, None, length=8, end=0)
    for i in range(3):
        prompt = [PROMPT[i, : LENGTHS[i]].tolist()]
        greedy = decoding.generate(
            MODEL, variables, prompt, jax.random.key(1), length=8, temperature=0, stop=[[0]], pad=0
        )
        assert drawn.tokens[i].tolist() == greedy[0, LENGTHS[i] :].tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_log_probabilities_are_the_models(variables, temperature):
    drawn = jax.jit(lambda k: rollout(MODEL, variables, PROMPT, LENGTHS, k, length=8, end=2, temperature=temperature))(
        keys()
    )
    tokens = joined(PROMPT, LENGTHS, drawn.tokens)
    mask = joined(jnp.zeros(PROMPT.shape), LENGTHS, drawn.mask)
    again = token_log_probs(MODEL.apply(variables, tokens) / temperature, tokens, mask)
    np.testing.assert_allclose(again, joined(jnp.zeros(PROMPT.shape), LENGTHS, drawn.log_probs), atol=2e-5)
    assert mask.sum() == drawn.mask.sum() > 3


def test_a_row_ends_with_its_end_token(variables):
    drawn = rollout(MODEL, variables, jnp.tile(PROMPT[:1], (64, 1)), jnp.full(64, 3), keys(rows=64), length=8, end=2)
    lengths = np.asarray(drawn.mask.sum(1)).astype(int)
    assert len(set(lengths.tolist())) > 2, "some end early"
    for row, mask, n in zip(drawn.tokens, drawn.mask, lengths, strict=True):
        assert mask.tolist() == [1.0] * n + [0.0] * (8 - n)
        assert 2 not in row[: n - 1] and (n == 8 or row[n - 1] == 2) and (row[n:] == 2).all()


def test_a_row_is_the_same_in_any_batch(variables):
    whole = rollout(MODEL, variables, PROMPT, LENGTHS, keys(), length=6, end=0)
    alone = rollout(MODEL, variables, PROMPT[1:2], LENGTHS[1:2], keys()[1:2], length=6, end=0)
    assert whole.tokens[1].tolist() == alone.tokens[0].tolist()


def test_samples_have_the_models_frequencies(variables):
    """10,000 first tokens: within four standard deviations of each probability."""
    n = 10_000
    drawn = rollout(MODEL, variables, jnp.tile(PROMPT[1:2], (n, 1)), jnp.full(n, 1), keys(3, n), length=1, end=0)
    p = np.asarray(jax.nn.softmax(MODEL.apply(variables, PROMPT[1:2, :1])[0, 0]))
    shares = np.bincount(drawn.tokens[:, 0], minlength=7) / n
    assert (np.abs(shares - p) < 4 * np.sqrt(p * (1 - p) / n) + 1e-9).all()


def test_a_completion_follows_its_prompt_at_once():
    rows = joined(jnp.array([[1, 2, 9], [3, 9, 9]]), jnp.array([2, 1]), jnp.array([[7, 8], [5, 6]]))
    assert rows.tolist() == [[1, 2, 7, 8, 0], [3, 5, 6, 0, 0]]

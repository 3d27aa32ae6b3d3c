"""Tokens drawn from a Markov chain whose probabilities are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.generation import ancestral

P = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3], [0, 0, 1]])  # row: the token before; 2 ends
LOGITS = jnp.log(jnp.asarray(P) + 1e-30)


def step(tokens, count):
    return LOGITS[tokens], count + 1


def keys(rows):
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(rows))


def drawn(rows, length=3, temperature=1.0, first=0):
    first = jnp.full(rows, first)
    return np.asarray(ancestral.sample(step, 0, first, keys(rows), length=length, eos=2, temperature=temperature))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_have_the_chains_probabilities(temperature):
    tokens = drawn(4_000, temperature=temperature)
    q = P ** (1 / temperature)
    q /= q.sum(1, keepdims=True)
    for t, before in ((0, np.zeros(4_000, int)), (1, tokens[:, 0])):
        for token in range(3):
            rows = tokens[before == token, t]
            shares = np.bincount(rows, minlength=3) / max(len(rows), 1)
            assert not len(rows) or shares == pytest.approx(q[token], abs=4 * 0.5 / np.sqrt(len(rows)))


def test_after_its_end_a_row_ends_on():
    tokens = drawn(200, length=6)
    ended = np.cumsum(tokens == 2, 1) > 0
    assert ended.any() and (tokens[ended] == 2).all()


def test_a_row_is_the_same_in_any_batch():
    np.testing.assert_array_equal(drawn(50)[:7], drawn(7))


def test_without_keys_the_most_probable_token():
    tokens = ancestral.sample(step, 0, jnp.array([0, 1, 2]), None, length=4, eos=2)
    assert tokens.tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [2, 2, 2, 2]]

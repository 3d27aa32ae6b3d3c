"""What slots hold of prompts, by hand; that it changes no bit of an answer is tested with the engine."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.models.text.gpt import GPT
from research.models.text.recurrent_lm import LSTMLM
from research.serving.decoder import from_model
from research.serving.prefixes import Prefixes

LENGTH = 16


def decoder(model):
    return from_model(model, model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32)), chunk=4)


@pytest.fixture(scope="module")
def gpt():
    return decoder(GPT(vocab_size=20, max_length=LENGTH, num_layers=1, num_heads=2, width=8))


def prompt(*tokens):
    return np.array(tokens, np.int32)


def read(prefixes, slot, tokens):
    for start in range(0, len(tokens), 4):
        prefixes.read(slot, tokens, start, len(tokens[start : start + 4]))


def test_whole_chunks_of_the_longest_common_beginning_and_a_token_is_left(gpt):
    prefixes = Prefixes(gpt, 3, LENGTH)
    assert prefixes.place(prompt(1, 2, 3, 4, 5), [0, 1, 2])[0::2] == (0, 0)  # nothing is held
    read(prefixes, 1, prompt(1, 2, 3, 4, 5, 6, 7, 8, 9))
    read(prefixes, 2, prompt(1, 2, 3, 4, 9, 9, 9, 9))
    assert prefixes.place(prompt(1, 2, 3, 4, 5, 6, 7, 8, 3), [0])[1:] == (1, 8)
    assert prefixes.place(prompt(1, 2, 3, 4, 5, 6, 7, 8), [0])[1:] == (1, 4)  # its last token has to be read
    assert prefixes.place(prompt(1, 2, 3, 4, 9, 9, 9, 9, 9), [0])[1:] == (2, 8)
    assert prefixes.place(prompt(1, 2, 3), [0])[2] == prefixes.place(prompt(2, 2, 3, 4, 5), [0])[2] == 0


def test_the_slot_is_the_holder_or_the_one_with_least_to_lose(gpt):
    prefixes = Prefixes(gpt, 3, LENGTH)
    read(prefixes, 0, prompt(1, 2, 3, 4))
    read(prefixes, 1, prompt(5, 6, 7, 8))
    assert prefixes.place(prompt(5, 6, 7, 8, 9), [0, 1]) == (1, 1, 4)
    assert prefixes.place(prompt(5, 6, 7, 8, 9), [0, 2]) == (2, 1, 4)
    assert prefixes.place(prompt(9, 9), [0, 1, 2])[0] == 2


def test_a_chunk_that_is_read_from_elsewhere_is_not_held(gpt):
    """The last chunk of a full cache begins earlier: other places of the same tokens may have other bits."""
    prefixes, tokens = Prefixes(gpt, 1, 10), prompt(*range(10))
    read(prefixes, 0, tokens[:8])
    prefixes.read(0, tokens, 6, 4)
    assert prefixes.place(tokens, [0])[2] == 4


def test_a_copy_has_the_tokens_that_are_shared_and_zeros(gpt):
    prefixes, tokens = Prefixes(gpt, 2, LENGTH), prompt(*range(8))
    cache = gpt.new_cache(2, LENGTH)
    for start in (0, 4):
        _, cache = gpt.prefill(cache, np.int32(0), tokens[start : start + 4], np.int32(start), np.int32(4))
        prefixes.read(0, tokens, start, 4)
    before = jax.device_get(cache)
    cache = jax.device_get(prefixes.copy(cache, 1, 0, tokens, 4))
    assert cache["index"].tolist() == [8, 4]
    for old, new in zip(*map(jax.tree.leaves, (before["layers"], cache["layers"])), strict=True):
        assert (new[0] == old[0]).all() and (new[1, :, :4] == old[0, :, :4]).all()
        assert (old[0, :, :8] != 0).all() and (new[1, :, 4:] == 0).all()
    assert prefixes.place(prompt(0, 1, 2, 3, 9), [1]) == (1, 1, 4)


def test_one_state_a_slot_shares_nothing():
    prefixes = Prefixes(decoder(LSTMLM(vocab_size=20, width=8)), 2, LENGTH)
    read(prefixes, 0, prompt(1, 2, 3, 4, 5))
    assert prefixes.place(prompt(1, 2, 3, 4, 5), [1])[2] == 0
    assert prefixes.compile("cache") == "cache"

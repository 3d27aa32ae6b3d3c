import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.models.text.gpt import GPT
from research.models.text.recurrent_lm import GRULM, LSTMLM
from research.serving.decoder import from_model
from research.util.errors import UserError

MODELS = {
    "gpt": GPT(vocab_size=11, max_length=12, num_layers=2, num_heads=2, width=8),
    "scanned": GPT(vocab_size=11, max_length=12, num_layers=2, num_heads=2, width=8, scan=True, positions="rotary"),
    "experts": GPT(vocab_size=11, max_length=12, num_layers=1, num_heads=2, width=8, experts=3),
    "lstm": LSTMLM(vocab_size=11, num_layers=2, width=8),
    "gru": GRULM(vocab_size=11, num_layers=1, width=8, tied=False),
}
TOKENS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3], np.int32)


def variables(model):
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: np.float32(0.4 * rng.normal(size=x.shape)), shapes)


@pytest.mark.parametrize("name", MODELS)
def test_prompt_in_chunks_then_token_by_token_is_one_pass_without_a_cache(name):
    model = MODELS[name]
    weights = variables(model)
    whole = np.asarray(jax.jit(model.apply)(weights, TOKENS[None]))[0]
    decoder = from_model(model, weights, chunk=4)
    cache = decoder.new_cache(3, 12)
    for start, count in ((0, 4), (4, 2)):
        chunk = np.pad(TOKENS[start : start + count], (0, 4 - count))
        logits, cache = decoder.prefill(cache, 1, chunk, start, count)
        np.testing.assert_allclose(logits, whole[start + count - 1], atol=2e-5)
    for at in range(6, 10):
        tokens = np.array([0, TOKENS[at], 7], np.int32)
        logits, cache = decoder.decode(cache, tokens, np.array([False, True, False]))
        np.testing.assert_allclose(logits[1], whole[at], atol=2e-5)
    assert cache["index"].tolist() == [0, 10, 0]


@pytest.mark.parametrize("name", ["gpt", "lstm"])
def test_a_slot_is_the_same_bits_whatever_its_neighbours_and_its_last_tenant(name):
    """Not-a-numbers everywhere else would spread to it, if anything did."""
    model = MODELS[name]
    decoder = from_model(model, variables(model), chunk=4)

    def logits(cache, slot, others):
        tokens, active = np.array(others, np.int32), np.ones(3, bool)
        _, cache = decoder.prefill(cache, slot, TOKENS[:4], 0, 4)
        out = []
        for at in range(4, 8):
            tokens[slot] = TOKENS[at]
            result, cache = decoder.decode(cache, tokens, active)
            out.append(np.asarray(result[slot]))
        return np.stack(out)

    clean = logits(decoder.new_cache(3, 12), 0, [0, 0, 0])
    spoilt = decoder.new_cache(3, 12)
    spoilt["layers"] = jax.tree.map(lambda x: jnp.full_like(x, np.nan), spoilt["layers"])
    dirty = logits(spoilt, 2, [5, 6, 0])
    assert np.isfinite(clean).all()
    np.testing.assert_array_equal(clean.view(np.int32), dirty.view(np.int32))


def test_an_idle_slot_that_is_full_stays_finite():
    """Its next position would be beyond the table of positions, whose rows are then not numbers."""
    model = MODELS["gpt"]
    decoder = from_model(model, variables(model), chunk=4)
    cache = decoder.new_cache(2, 12)
    for start in (0, 4, 8):
        _, cache = decoder.prefill(cache, 0, TOKENS[:4], start, 4)
    _, cache = decoder.decode(cache, np.zeros(2, np.int32), np.array([False, True]))
    assert cache["index"].tolist() == [12, 1]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(cache["layers"]))


def test_a_chunk_without_a_token_is_refused():
    with pytest.raises(UserError, match="chunk=0: want at least 1 token"):
        from_model(MODELS["gpt"], {}, chunk=0)

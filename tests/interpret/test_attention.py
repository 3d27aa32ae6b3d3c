"""Attention's maps, pooling's weights, and Kendall's tau with gradients worked out by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from research.interpret import attention
from research.models.text import gpt, text_transformer
from research.models.text.text_cnn import TextCNN
from research.models.text.text_recurrent import TanhAttention
from research.util.errors import UserError

SMALL = {"num_layers": 2, "num_heads": 2, "width": 16, "dropout": 0.0}
TOKENS, LENGTH = np.array([[5, 6, 7, 8, 1, 0], [9, 1, 0, 0, 0, 0]]), np.array([5, 2])


def weights(model, *inputs):
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]
    rng = np.random.default_rng(1)
    return {"params": jax.tree.map(lambda a: np.float32(0.5 * rng.normal(size=a.shape)), shapes)}


def test_a_berts_maps():
    model = text_transformer.make_bert(SMALL, 23, 3, 16)
    found = attention.maps(model, weights(model, TOKENS, LENGTH), TOKENS, LENGTH)
    assert list(found) == ["layer 0", "layer 1"]
    for layer in found.values():
        assert layer.shape == (2, 2, 6, 6)  # B, H, T, S
        np.testing.assert_allclose(layer.sum(-1), 1, atol=1e-6)
        assert np.all(layer[0, :, :, 5:] == 0) and np.all(layer[1, :, :, 2:] == 0)  # none looks at what is filled up
        assert np.abs(layer[:, 0] - layer[:, 1]).max() > 1e-3


def test_a_gpts_maps_look_back_alone_and_scanned_layers_are_the_same():
    model = text_transformer.make_gpt(SMALL, 23, 3, 16)
    variables = weights(model, TOKENS, LENGTH)
    found = attention.maps(model, variables, TOKENS, LENGTH)
    assert len(found) == 2
    for layer in found.values():
        np.testing.assert_allclose(layer.sum(-1), 1, atol=1e-6)
        assert np.all(np.triu(layer, 1) == 0)
    scanned = text_transformer.make_gpt(SMALL | {"scan": True}, 23, 3, 16)
    params = variables["params"] | {"gpt": gpt.stack(variables["params"]["gpt"])}
    again = attention.maps(scanned, {"params": params}, TOKENS, LENGTH)
    assert list(again) == list(found)
    for name in found:
        np.testing.assert_allclose(again[name], found[name], atol=1e-5)


def test_a_model_without_attention():
    model = TextCNN(23, 3, width=8, maps=5)
    variables = weights(model, TOKENS, LENGTH)
    assert attention.maps(model, variables, TOKENS, LENGTH) == {}
    with pytest.raises(UserError, match="does not pool by attention"):
        attention.pooled(lambda: model.apply(variables, jnp.asarray(TOKENS), jnp.asarray(LENGTH)))


class Pooled(nn.Module):
    """Embeddings pooled by attention, and two classes."""

    @nn.compact
    def __call__(self, tokens, length):
        x = nn.Embed(23, 4, name="tokens")(tokens)
        share = TanhAttention(3, name="attention")(x, jnp.arange(tokens.shape[1]) < length[:, None])
        return nn.Dense(2, name="head")(jnp.einsum("bt,btd->bd", share, x))


def test_agreement_is_kendalls_tau_of_weights_and_gradients_with_the_weights_fixed():
    """With weights a held fixed, d p_k / d e_t is a_t p_k (w_k - sum_j p_j w_j): all by hand but the weights."""
    model = Pooled()
    variables = weights(model, TOKENS, LENGTH)
    params = variables["params"]
    rng = np.random.default_rng(3)
    tokens, length = rng.integers(1, 23, (6, 7)), np.array([7, 5, 1, 4, 6, 7])
    logits, share = attention.pooled(lambda: model.apply(variables, tokens, length))
    share, p = np.asarray(share), np.asarray(jax.nn.softmax(logits))
    expected = []
    for row, n in enumerate(length):
        k = p[row].argmax()
        kernel = params["head"]["kernel"]
        slope = p[row, k] * (kernel[:, k] - kernel @ p[row])
        sizes = np.abs(share[row, :n] * (params["tokens"]["embedding"][tokens[row, :n]] @ slope))
        if n > 1:
            expected.append(scipy.stats.kendalltau(share[row, :n], sizes).statistic)
    batches = [
        {"tokens": tokens[:4], "length": length[:4], "mask": np.ones(4)},
        {"tokens": tokens[[4, 5, 0, 0]], "length": length[[4, 5, 0, 0]], "mask": np.array([1, 1, 0, 0])},
    ]

    def predict(batch):
        return jax.nn.softmax(model.apply(variables, batch["tokens"], batch["length"]))

    found = attention.agreement(predict, batches)
    assert len(expected) == 5 and len(set(np.round(expected, 3))) > 2
    np.testing.assert_allclose(found["tau"], expected, atol=1e-6)
    np.testing.assert_array_equal(found["class"], np.delete(p.argmax(1), 2))

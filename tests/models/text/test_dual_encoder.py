from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from research.models.text.bert import Encoder
from research.models.text.dual_encoder import BagEncoder, BertEncoder, DualEncoder

TOKENS, MASK = jnp.array([[3, 1, 4, 0]]), jnp.array([[1.0, 1, 1, 0]])


def test_bag_by_hand():
    """Vectors of two numbers, weights 1, e and 1: their mean, without its mean, over its deviation, times the scale."""
    table = np.array([[9, 9], [1, 4], [9, 9], [2, 0], [5, 1]], np.float32)
    weight = np.array([[9], [1], [9], [0], [0]], np.float32)
    params = {"tokens": {"embedding": table}, "weight": {"embedding": weight}, "norm": {"scale": np.array([3.0, 2.0])}}
    got = BagEncoder(5, 2).apply({"params": params}, TOKENS, MASK)
    mean = (table[3] + np.e * table[1] + table[4]) / (2 + np.e)
    want = (mean - mean.mean()) / np.sqrt(mean.var() + 1e-6) * [3, 2]
    np.testing.assert_allclose(got[0], want, rtol=1e-5)
    longer = BagEncoder(5, 2).apply(
        {"params": params}, jnp.pad(TOKENS, [(0, 0), (0, 5)]), jnp.pad(MASK, [(0, 0), (0, 5)])
    )
    np.testing.assert_allclose(longer, got, rtol=1e-6)


def test_inner_products_begin_at_the_scale_of_one():
    model = BagEncoder(200, 128)
    tokens, mask = jnp.asarray(np.random.default_rng(0).integers(0, 200, (64, 12))), jnp.ones((64, 12))
    x = np.asarray(model.apply(model.init(jax.random.key(0), tokens, mask), tokens, mask))
    scores = (x @ x.T)[~np.eye(64, dtype=bool)]
    assert 0.5 < scores.std() < 2


def test_one_encoder_or_two():
    make = partial(BagEncoder, 5, 4)
    args = (TOKENS, MASK, TOKENS, MASK)
    for shared, names in ((True, {"shared"}), (False, {"question", "passage"})):
        model = DualEncoder(make, shared)
        variables = model.init(jax.random.key(0), *args)
        assert set(variables["params"]) == names
        asked, told = model.apply(variables, *args)
        assert bool(jnp.allclose(asked, told)) == shared
        np.testing.assert_array_equal(model.apply(variables, TOKENS, MASK, method="passages"), told)
        np.testing.assert_array_equal(model.apply(variables, TOKENS, MASK, method="questions"), asked)


def test_bert_gives_the_first_tokens_vector():
    encoder = Encoder(vocab_size=9, num_layers=1, num_heads=2, width=8, max_length=6)
    model = BertEncoder(encoder)
    variables = model.init(jax.random.key(0), TOKENS, MASK)
    whole = encoder.apply({"params": variables["params"]["encoder"]}, TOKENS, MASK)
    np.testing.assert_allclose(model.apply(variables, TOKENS, MASK), whole[:, 0], rtol=1e-6)

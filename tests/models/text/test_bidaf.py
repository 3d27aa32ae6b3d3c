"""The attention flow by hand, and the reader's promises: padding is not seen, places are shut out, sizes are the paper's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.models.text.bert import Encoder
from research.models.text.bert_reader import BertReader
from research.models.text.bidaf import BiDAF, CharCNN, Similarity, attention_flow
from research.util.errors import UserError

SMALL = {"vocab_size": 11, "num_chars": 7, "words": 3, "char_width": 2, "filters": 4, "width": 3, "dropout": 0.5}


def test_attention_flow_by_hand():
    """Two tokens h of the passage, two of the question, similarities whose exponentials are whole numbers."""
    h, u = np.array([[1.0, 2], [3, -1]]), np.array([[4.0, 0], [2, 6]])
    similarity = np.log([[3.0, 1], [2, 2]])
    # Eq. 2: the tokens attend by [3/4, 1/4] and [1/2, 1/2].
    to_question = np.array([[0.75 * 4 + 0.25 * 2, 0.25 * 6], [3, 3]])
    # Eq. 3: the greatest of each row are ln 3 and ln 2, so the question attends by 3/5 and 2/5.
    to_passage = 0.6 * h[0] + 0.4 * h[1]
    want = np.concatenate([h, to_question, h * to_question, h * to_passage], axis=1)
    inside = jnp.ones((1, 2, 2), bool)
    got = attention_flow(*(jnp.asarray(x, jnp.float32)[None] for x in (h, u, similarity)), inside)
    np.testing.assert_allclose(got[0], want, rtol=1e-6)
    # A third token on either side that is padding changes nothing.
    padded = [np.pad(x, [(0, 1)] + [(0, n)], constant_values=9) for x, n in ((h, 0), (u, 0), (similarity, 1))]
    inside = jnp.zeros((1, 3, 3), bool).at[:, :2, :2].set(True)
    got = attention_flow(*(jnp.asarray(x, jnp.float32)[None] for x in padded), inside)
    np.testing.assert_allclose(got[0, :2], want, rtol=1e-6)


def test_similarity_is_a_product_with_all_three_parts():
    rng = np.random.default_rng(0)
    h, u = rng.normal(size=(1, 4, 5)).astype(np.float32), rng.normal(size=(1, 3, 5)).astype(np.float32)
    w = {name: rng.normal(size=5).astype(np.float32) for name in ("passage", "question", "both")}
    got = Similarity().apply({"params": w}, jnp.asarray(h), jnp.asarray(u))
    for t in range(4):
        for j in range(3):
            whole = np.concatenate([h[0, t], u[0, j], h[0, t] * u[0, j]])
            want = whole @ np.concatenate([w["passage"], w["question"], w["both"]])
            assert float(got[0, t, j]) == pytest.approx(float(want), rel=1e-5, abs=1e-5)


def test_char_cnn_is_a_convolution():
    rng = np.random.default_rng(0)
    x, kernel = jnp.float32(rng.normal(size=(2, 8, 3))), jnp.float32(rng.normal(size=(15, 4)))
    got = CharCNN(4).apply({"params": {"kernel": kernel, "bias": np.full(4, 0.5, np.float32)}}, x)
    conv = jax.lax.conv_general_dilated(
        x, kernel.reshape(5, 3, 4), (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
    )
    np.testing.assert_allclose(got, jnp.maximum(conv + 0.5, 0).max(1), rtol=1e-5)


def rows(rng, q=4, t=6, w=8, pad=(1, 2)):
    words = {"question": rng.integers(1, 11, (2, q)), "passage": rng.integers(1, 11, (2, t))}
    chars = {f"{k}_chars": rng.integers(1, 7, (*v.shape, w)) for k, v in words.items()}
    for key, n in zip(words, pad, strict=True):
        words[key][:, words[key].shape[1] - n :] = 0
    return {k: v.astype(np.int32) for k, v in {**words, **chars}.items()}


@pytest.mark.parametrize("changes", [{"null": True, "end_sees_all": True, "match": True}, {"words": 0}])
def test_padding_is_not_seen_and_not_answered(changes):
    rng = np.random.default_rng(1)
    model, batch = BiDAF(**SMALL | changes), rows(rng)
    variables = jax.jit(model.init)(jax.random.key(0), **batch)
    variables = jax.tree.map(lambda a: 0.5 * rng.normal(size=a.shape).astype(np.float32), variables)
    apply = jax.jit(model.apply)
    start, end = (np.asarray(x) for x in apply(variables, **batch))
    assert start.shape == end.shape == (2, 7)
    assert (start[:, 5:] < -1e29).all() and (end[:, 5:] < -1e29).all() and (start[:, 1:5] > -1e3).all()
    assert (start[:, 0] > -1e3).all() == bool(changes.get("null"))
    wider = {k: np.pad(v, [(0, 0), (0, 3)] + [(0, 0)] * (v.ndim - 2)) for k, v in batch.items()}
    again = [np.asarray(x) for x in apply(variables, **wider)]
    np.testing.assert_allclose(again[0][:, :5], start[:, :5], atol=1e-5)
    np.testing.assert_allclose(again[1][:, :5], end[:, :5], atol=1e-5)


def test_parameter_counts():
    """The paper tells of 2.6 million with GloVe's 100 numbers a word held fixed: what its authors' code trains."""

    def count(**changes):
        model = BiDAF(vocab_size=5, num_chars=200, **changes)
        shapes = jax.eval_shape(model.init, jax.random.key(0), **rows(np.random.default_rng(0), w=16))
        trained = {k: v for k, v in shapes["params"].items() if k != "words"}
        return sum(leaf.size for leaf in jax.tree.leaves(trained))

    def lstm(inputs, h=100):
        return 2 * 4 * h * (inputs + h + 1)

    D, H = 200, 100
    shared = 200 * 8 + (5 * 8 + 1) * 100 + 2 * 2 * D * (D + 1) + lstm(D) + 6 * H + lstm(8 * H) + lstm(2 * H)
    assert count() == shared + lstm(2 * H) + 2 * (10 * H + 1)
    assert count(end_sees_all=True) == shared + lstm(14 * H) + 2 * (10 * H + 1)
    assert 2.4e6 < count(end_sees_all=True) < 2.8e6


def test_bert_reader_answers_from_the_passage_alone():
    encoder = Encoder(vocab_size=20, num_layers=1, num_heads=2, width=8, max_length=10)
    tokens = jnp.array([[1, 5, 6, 2, 7, 8, 9, 2, 0, 0]], np.int32)  # [CLS] 5 6 [SEP] 7 8 9 [SEP] and padding
    segments = jnp.array([[0, 0, 0, 0, 1, 1, 1, 1, 0, 0]], np.int32)
    batch = {"tokens": tokens, "token_type_ids": segments, "token_mask": (tokens > 0).astype(np.float32)}
    model = BertReader(encoder)
    for logits in model.apply(model.init(jax.random.key(0), **batch), **batch):
        assert np.flatnonzero(np.asarray(logits[0]) > -1e29).tolist() == [0, 4, 5, 6]
    full = {k: v[:, :8] for k, v in batch.items()}  # a row without padding ends in its [SEP]
    for logits in model.apply(model.init(jax.random.key(0), **full), **full):
        assert np.flatnonzero(np.asarray(logits[0]) > -1e29).tolist() == [0, 4, 5, 6]


def test_mistakes():
    with pytest.raises(UserError, match="model.width = 0"):
        BiDAF(**SMALL | {"width": 0})
    with pytest.raises(UserError, match="model.dropout = 1.0"):
        BiDAF(**SMALL | {"dropout": 1.0})


def test_match_is_of_the_same_characters():
    """With weights that pass on the match alone, a word differs where and only where its text has it, unknown or not."""
    rng = np.random.default_rng(2)
    batch = rows(rng)
    batch["passage"][:] = batch["question"][:] = 1  # to the vocabulary all are the same unknown word
    batch["passage_chars"][0, 3] = batch["question_chars"][0, 1]
    model = BiDAF(**SMALL | {"match": True})
    variables = jax.jit(model.init)(jax.random.key(0), **batch)

    def inputs(batch):
        options = {"mutable": "intermediates", "capture_intermediates": lambda m, _: m.name == "highway_1"}
        _, kept = model.apply(variables, **jax.tree.map(jnp.asarray, batch), **options)
        return kept["intermediates"]["highway_1"]["__call__"]

    _, passage = inputs(batch)
    changed = {**batch, "question_chars": batch["question_chars"].copy()}
    changed["question_chars"][0, 1] = 0
    _, other = inputs(changed)
    assert [bool(np.abs(a - b).max() > 1e-6) for a, b in zip(passage[0], other[0], strict=True)] == [False] * 3 + [
        True
    ] + [False] * 2

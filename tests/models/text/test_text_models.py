"""The classifiers of texts against sums by hand, torch's convolution and each other's promises."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core.mesh import path_name
from research.losses.classification import cross_entropy
from research.models.text import text_transformer
from research.models.text.gpt import GPT
from research.models.text.text_cnn import TextCNN
from research.models.text.text_conv import TextConv
from research.models.text.text_ngrams import TextNGrams, ngrams
from research.models.text.text_recurrent import TanhAttention, TextRecurrent
from research.util.errors import UserError

V, N, T = 23, 3, 9
TRANSFORMER = {"num_layers": 1, "num_heads": 2, "width": 16, "dropout": 0.0}
MODELS = {
    "recurrent": TextRecurrent(V, N, width=8, hidden=6),
    "recurrent, last, gru": TextRecurrent(V, N, width=8, hidden=6, num_layers=2, cell="gru", pool="last"),
    "recurrent, mean": TextRecurrent(V, N, width=8, hidden=6, bidirectional=False, pool="mean"),
    "recurrent, max": TextRecurrent(V, N, width=8, hidden=6, pool="max"),
    "cnn": TextCNN(V, N, width=8, maps=5),
    "conv": TextConv(V, N, max_length=20, width=8, window=3, maps=24, pool=2, hidden=16),
    "ngrams": TextNGrams(V, N, width=8, order=3, buckets=64),
    "bert": text_transformer.make_bert(TRANSFORMER, V, N, 16),
    "gpt": text_transformer.make_gpt(TRANSFORMER, V, N, 16),
}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


def batch(rows=4, length=T, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, V, (rows, length)).astype(np.int32)
    lengths = np.array([length, 1, 4, 6][:rows], np.int32)
    return jnp.where(np.arange(length) < lengths[:, None], tokens, 0), jnp.asarray(lengths)


def weights(model, *inputs):
    """Parameters far from their initial values: every one N(0, 0.5^2)."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: jnp.float32(0.5 * rng.normal(size=a.shape)), shapes)


@every_model
def test_what_lies_beyond_a_row_changes_nothing(model):
    """Neither other numbers there nor more room, and not the neighbours in the batch."""
    tokens, length = batch()
    params = weights(model, tokens, length)
    apply = jax.jit(model.apply)
    logits = apply(params, tokens, length)
    assert logits.shape == (4, N) and logits.dtype == jnp.float32
    noise = jnp.where(tokens == 0, 7, tokens)
    np.testing.assert_allclose(apply(params, noise, length), logits, atol=1e-6)
    alone = apply(params, tokens[2:3, : length[2]], length[2:3])
    np.testing.assert_allclose(alone[0], logits[2], atol=1e-5)


@every_model
def test_every_token_and_every_parameter_counts(model):
    """The logits change with each token of a row, and every parameter has a gradient."""
    tokens, length = np.repeat(np.asarray(batch(1)[0]), T + 1, 0), np.full(T + 1, T)
    at = np.arange(T)
    tokens[at, at] = tokens[at, at] % (V - 1) + 1  # row t has another token t, the last row none
    tokens, length = jnp.asarray(tokens), jnp.asarray(length)
    params = weights(model, tokens, length)

    @partial(jax.value_and_grad, has_aux=True)
    def run(params):
        logits = model.apply(params, tokens, length)
        return (logits[-1] * np.arange(1, N + 1)).sum(), logits

    (_, logits), grads = jax.jit(run)(params)
    assert np.abs(logits[:-1] - logits[-1]).max(1).min() > 1e-4
    still = [path_name(p) for p, g in jax.tree_util.tree_leaves_with_path(grads) if not np.abs(g).max() > 0]
    assert [name for name in still if "segment" not in name] == []


@pytest.mark.parametrize("name", ["recurrent, mean", "cnn", "conv"])
def test_dropout_is_for_training_alone(name):
    model = MODELS[name].clone(dropout=0.5)
    tokens, length = batch()
    params = weights(model, tokens, length)
    train = jax.jit(lambda key: model.apply(params, tokens, length, train=True, rngs={"dropout": key}))
    runs = [train(jax.random.key(i)) for i in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2]).max() > 1e-3
    jax.jit(model.apply)(params, tokens, length)  # without a key: nothing is random


# Recurrent


def test_attention_weighs_by_hand():
    """Two tokens inside, of scores tanh(0) = 0 and tanh(1): weights 1 / (1 + e^tanh(1)) and the rest; beyond exactly 0."""
    states = jnp.array([[[0.0, 9.0], [1.0, 9.0], [5.0, 9.0]]])
    params = {
        "hidden": {"kernel": np.array([[1.0], [0.0]], np.float32), "bias": np.zeros(1, np.float32)},
        "score": {"kernel": np.ones((1, 1), np.float32)},
    }
    weights = TanhAttention(1).apply({"params": params}, states, jnp.array([[True, True, False]]))
    first = 1 / (1 + np.exp(np.tanh(1)))
    np.testing.assert_allclose(weights, [[first, 1 - first, 0]], rtol=1e-6)
    assert weights[0, 2] == 0


def test_a_single_logit_is_a_sigmoid_with_its_cross_entropy():
    """The softmax of (0, z) is sigmoid(z): two classes as Keras' Dense(1, "sigmoid") with binary cross-entropy has them."""
    tokens, length = batch()
    model = TextRecurrent(V, 2, width=8, hidden=6, bidirectional=False, pool="last", single_logit=True)
    params = weights(model, tokens, length)
    logits = np.asarray(model.apply(params, tokens, length))
    assert params["params"]["head"]["kernel"].shape == (6, 1) and not logits[:, 0].any()
    p, labels = 1 / (1 + np.exp(-logits[:, 1].astype(np.float64))), np.array([0, 1, 1, 0])
    binary = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean()
    terms, _ = cross_entropy(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_allclose(sum(c * s / w for s, w, c in terms.values()), binary, rtol=1e-6)


def test_forget_biases_begin_at_one():
    tokens, length = batch()
    model = TextRecurrent(V, N, width=8, hidden=6, bidirectional=False, pool="last", forget_bias=1.0)
    bias = model.init(jax.random.key(0), tokens, length)["params"]["layer_0"]["input"]["bias"]
    assert np.asarray(bias).tolist() == [0.0] * 6 + [1.0] * 6 + [0.0] * 12  # i, f, g, o


def test_recurrent_parameter_count():
    # Jain & Wallace's sizes: 300 wide, 128 units a direction, attention over 128 hidden units.
    D, H = 300, 128
    model = TextRecurrent(100, 2, width=D, hidden=H)
    tree = jax.eval_shape(model.init, jax.random.key(0), *batch())
    ours = sum(leaf.size for leaf in jax.tree.leaves(tree))
    direction = D * 4 * H + 4 * H + H * 4 * H
    assert ours == 100 * D + 2 * direction + (2 * H * H + H) + H + (2 * H * 2 + 2)


# Convolution


def test_kims_initial_values_and_size():
    model = TextCNN(1000, 2)
    params = jax.jit(model.init)(jax.random.key(0), *batch())["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 1000 * 300 + (3 + 4 + 5) * 300 * 100 + 300 + 602
    for name, scale in (("tokens/embedding", 0.25), ("window_4/kernel", 0.01)):
        group, leaf = name.split("/")
        assert scale * 0.99 < np.abs(params[group][leaf]).max() <= scale
        assert params[group][leaf].std() == pytest.approx(scale / 3**0.5, rel=0.02)
    assert not np.any(params["head"]["kernel"])


@pytest.mark.parity
def test_a_stack_of_convolutions_is_torchs():
    """Keras' layers on a row of full length: its "valid" windows, a maximum of every 5 and a rest that is dropped."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    model = TextConv(V, N, max_length=33, width=8, maps=6, hidden=7)
    tokens = np.random.default_rng(0).integers(0, V, (2, 33)).astype(np.int32)
    params = weights(model, tokens, np.array([33, 33]))
    p = jax.tree.map(lambda a: torch.tensor(np.asarray(a)), params["params"])
    x = p["tokens"]["embedding"][tokens].swapaxes(1, 2)
    x = F.relu(F.conv1d(x, p["conv_0"]["kernel"].permute(2, 1, 0), p["conv_0"]["bias"]))
    x = F.relu(F.conv1d(F.max_pool1d(x, 5), p["conv_1"]["kernel"].permute(2, 1, 0), p["conv_1"]["bias"]))
    x = F.relu(x.amax(2) @ p["hidden"]["kernel"] + p["hidden"]["bias"])
    expected = x @ p["head"]["kernel"] + p["head"]["bias"]
    np.testing.assert_allclose(model.apply(params, tokens, np.array([33, 33])), expected.numpy(), rtol=1e-4, atol=1e-4)


def test_a_stack_of_convolutions_is_exported_for_rows_of_any_length():
    model = TextConv(V, N, max_length=33, width=8, maps=6, hidden=7)
    tokens, length = batch()
    params = weights(model, tokens, length)
    b, t = jax.export.symbolic_shape("b, t", constraints=["t <= 33"])
    shapes = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((b, t), (b,))]
    exported = jax.export.export(jax.jit(model.apply))(params, *shapes)
    np.testing.assert_allclose(exported.call(params, tokens, length), model.apply(params, tokens, length), atol=1e-5)


def test_the_article_3_network_has_keras_size():
    """1,000 words of 64, two convolutions of 128 x 5, 128 units, two classes: what Keras' `summary()` sums up to."""
    tree = jax.eval_shape(TextConv(1000, 2, max_length=100).init, jax.random.key(0), *batch())
    ours = sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert ours == 1000 * 64 + (5 * 64 * 128 + 128) + (5 * 128 * 128 + 128) + (128 * 128 + 128) + (128 * 2 + 2)


# N-grams


def test_ngrams_by_hand():
    tokens, length = jnp.array([[3, 1, 2, 0]]), jnp.array([3])
    numbers, there = ngrams(tokens, length, 3, V, 64)
    assert numbers[0, :3, 0].tolist() == [3, 1, 2]
    assert there[0].tolist() == [[True, False, False], [True, True, False], [True, True, True], [False] * 3]
    factor = 116_049_371
    two = [(3 * factor + 1) % 2**32, (1 * factor + 2) % 2**32]
    three = (two[0] * factor + 2) % 2**32
    assert numbers[0, 1:3, 1].tolist() == [V + h % 64 for h in two]
    assert int(numbers[0, 2, 2]) == V + three % 64


def test_a_bag_is_the_mean_of_its_embeddings():
    model = MODELS["ngrams"]
    tokens, length = jnp.array([[3, 1, 2, 0]]), jnp.array([3])
    params = weights(model, tokens, length)
    table, kernel = params["params"]["tokens"]["embedding"], params["params"]["head"]["kernel"]
    numbers, there = map(np.asarray, ngrams(tokens, length, 3, V, 64))
    assert there.sum() == 6
    expected = table[numbers[there]].mean(0) @ kernel
    np.testing.assert_allclose(model.apply(params, tokens, length)[0], expected, atol=1e-5)


def test_order_one_does_not_see_the_order():
    model = TextNGrams(V, N, width=8, order=1)
    tokens, length = jnp.array([[3, 1, 2]]), jnp.array([3])
    params = weights(model, tokens, length)
    assert params["params"]["tokens"]["embedding"].shape == (V, 8)
    np.testing.assert_allclose(
        model.apply(params, tokens, length), model.apply(params, tokens[:, ::-1], length), atol=1e-6
    )


# Transformers


def test_a_gpt_without_its_head_ends_in_what_the_head_reads():
    how = {"vocab_size": V, "num_layers": 2, "num_heads": 2, "width": 16, "max_length": 16}
    tokens, _ = batch()
    params = weights(GPT(**how, tied=False), tokens)
    logits = GPT(**how, tied=False).apply(params, tokens)
    hidden = GPT(**how, head=False).apply(params, tokens)
    np.testing.assert_allclose(hidden @ params["params"]["head"]["kernel"], logits, atol=1e-4)


def test_paths_are_those_of_the_models_trained_before():
    tokens, length = batch()
    for name, there in {
        "bert": {"encoder", "pooler", "head"},
        "gpt": {"gpt", "head"},
    }.items():
        assert jax.eval_shape(MODELS[name].init, jax.random.key(0), tokens, length)["params"].keys() == there


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextRecurrent(V, N, cell="lstn"), "model.cell = 'lstn'; did you mean 'lstm'?"),
        (lambda: TextRecurrent(V, N, pool="first"), "model.pool = 'first'"),
        (lambda: TextRecurrent(V, N, hidden=0), "model.hidden = 0: at least 1"),
        (lambda: TextRecurrent(V, N, dropout=1.0), "model.dropout = 1.0"),
        (lambda: TextRecurrent(V, N, pool="max", attention_width=8), "model.attention_width = 8"),
        (
            lambda: TextRecurrent(V, N, cell="gru", forget_bias=1.0),
            "model.forget_bias = 1.0 is for model.cell = 'lstm'",
        ),
        (lambda: TextRecurrent(V, N, single_logit=True), "model.single_logit = True is for two classes; there are 3"),
        (lambda: TextCNN(V, N, windows=()), "model.windows = ()"),
        (lambda: TextCNN(V, N, dropout=-0.1), "model.dropout = -0.1"),
        (lambda: TextConv(V, N, 28), "data.length = 28: model.name = 'conv' needs 29 for its last convolution"),
        (lambda: TextConv(V, N, 100, pool=0), "model.pool = 0: at least 1"),
        (lambda: TextNGrams(V, N, order=0), "model.order = 0"),
        (lambda: text_transformer.make_bert({"width": 15}, V, N, 16), "num_"),
    ],
)
def test_attributes_that_do_not_fit(make, message):
    with pytest.raises((UserError, TypeError)) as found:
        make()
    assert message in str(found.value)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core.mesh import make_mesh, path_name, shardings
from research.generation import decoding
from research.models.text.recurrent_lm import DROPOUTS, GRULM, LSTMLM, SHARDING
from research.util.errors import UserError

MODELS = {"lstm": LSTMLM, "gru": GRULM}
SMALL = {"vocab_size": 11, "num_layers": 2, "width": 8}
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 11, (2, 9)))


def make(name, **kwargs):
    """A model, and parameters far from their initial values: every weight N(0, 0.3^2)."""
    model = MODELS[name](**SMALL | kwargs)
    shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    rng = np.random.default_rng(1)
    return model, jax.tree.map(lambda a: jnp.float32(0.3 * rng.normal(size=a.shape)), shapes)


def count(model):
    tree = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_parameter_counts():
    # Zaremba 2014's medium model has 20 M: 2 layers of 4 (650 + 650 + 1) 650, two matrices of 10,000 x 650.
    medium = LSTMLM(vocab_size=10_000, num_layers=2, width=650, tied=False)
    assert count(medium) == 2 * 4 * 1301 * 650 + 2 * 10_000 * 650 + 10_000 == 19_775_200
    assert count(medium.clone(tied=True)) == 19_775_200 - 10_000 * 650
    # A GRU has three gates and one bias more; the first layer reads 64 features.
    gru = GRULM(vocab_size=100, num_layers=2, width=32, embedding_width=64, tied=False)
    assert count(gru) == 3 * 32 * (64 + 32 + 1) + 3 * 32 * (32 + 32 + 1) + 2 * 32 + 100 * (64 + 32 + 1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("tied", [True, False])
def test_is_embedding_layers_and_softmax(name, tied):
    model, variables = make(name, tied=tied)
    p = variables["params"]
    x = p["tokens"]["embedding"][TOKENS]
    for i in range(2):
        x, _ = model.layer(8).apply({"params": p[f"layer_{i}"]}, x)
    want = x @ (p["tokens"]["embedding"].T if tied else p["head"]["kernel"]) + p["head_bias"]
    np.testing.assert_allclose(model.apply(variables, TOKENS), want, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_cached_logits_equal_uncached(name):
    model, variables = make(name)
    whole = model.apply(variables, TOKENS)
    cache, parts = model.init_cache(2, 1), []
    for begin, end in [(0, 4), (4, 5), (5, 9)]:
        logits, cache = model.apply(variables, TOKENS[:, begin:end], cache=cache)
        parts.append(logits)
    assert cache["index"] == 9
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-5)


def test_generates_the_likeliest_tokens():
    model, variables = make("gru")
    got = decoding.generate(model, variables, TOKENS[:, :3], jax.random.key(0), length=5, temperature=0)
    for t in range(3, 8):
        want = np.asarray(model.apply(variables, got[:, :t]))[:, -1].argmax(-1)
        np.testing.assert_array_equal(got[:, t], want)


def test_each_dropout_changes_training_alone():
    model, variables = make("lstm")
    plain = model.apply(variables, TOKENS)
    seen = []
    for name in DROPOUTS:
        dropped = model.clone(**{name: 0.5})
        np.testing.assert_array_equal(dropped.apply(variables, TOKENS), plain)
        seen.append(dropped.apply(variables, TOKENS, train=True, rngs={"dropout": jax.random.key(0)}))
        assert np.abs(seen[-1] - plain).max() > 0.05
    assert min(np.abs(a - b).max() for i, a in enumerate(seen) for b in seen[:i]) > 0.01
    np.testing.assert_array_equal(model.apply(variables, TOKENS, train=True), plain)


def test_output_dropout_is_one_mask_a_sequence():
    """With a softmax that reads single units, the units that a row has lost are the same at every time."""
    model, variables = make("lstm", output_dropout=0.5, tied=False, vocab_size=11)
    variables["params"]["head"]["kernel"] = jnp.eye(8, 11)
    variables["params"]["head_bias"] = jnp.zeros(11)
    got = model.apply(variables, TOKENS, train=True, rngs={"dropout": jax.random.key(1)})[..., :8]
    kept = np.asarray(got) != 0
    assert (kept == kept[:, :1]).all() and kept.any() and not kept.all()
    plain = model.apply(variables, TOKENS)[..., :8]
    np.testing.assert_allclose(np.where(kept, got, 0), np.where(kept, 2 * plain, 0), atol=1e-6)


def test_initial_weights():
    params = LSTMLM(**SMALL, init_range=0.1, tied=False, forget_bias=1.0).init(jax.random.key(0), TOKENS)["params"]
    forget = params["layer_0"]["input"]["bias"][8:16]
    assert 0.9 <= forget.min() <= forget.max() <= 1.1
    params["layer_0"]["input"]["bias"] = params["layer_0"]["input"]["bias"].at[8:16].add(-1)
    params["layer_1"]["input"]["bias"] = params["layer_1"]["input"]["bias"].at[8:16].add(-1)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        assert 0.05 < np.abs(leaf).max() <= 0.1 + 1e-6, path_name(path)


def test_sharding_rules():
    model, variables = make("lstm", tied=False)
    mesh = make_mesh({"data": 2}, jax.devices()[:2])
    leaves = jax.tree_util.tree_leaves_with_path(shardings(variables, SHARDING["fsdp"], mesh))
    found = {path_name(path): tuple(leaf.spec) for path, leaf in leaves}
    assert found["params/layer_1/recurrent_kernel"] == ("data", None)
    assert found["params/tokens/embedding"] == (None, "data")
    assert found["params/layer_0/input/bias"] == ()


@pytest.mark.parametrize(
    "kwargs, words",
    [
        ({"width": 0}, "model.width=0: want at least 1"),
        ({"num_layers": 0}, "model.num_layers=0: want at least 1"),
        ({"recurrent_dropout": 1.0}, "model.recurrent_dropout=1.0 is not in"),
        ({"embedding_width": 4}, "model.tied wants one width, not embedding_width=4 and width=8"),
        ({"init_range": -0.1}, "model.init_range=-0.1: above 0"),
    ],
)
def test_bad_attributes(kwargs, words):
    with pytest.raises(UserError, match=words) as caught:
        LSTMLM(**SMALL | kwargs)
    assert "\n" not in str(caught.value)

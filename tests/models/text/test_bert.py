from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core.mesh import make_mesh, path_name, shardings
from research.models.text.bert import SHARDING, BertForPretraining, Encoder, Pooler
from research.util.errors import UserError

SMALL = {"vocab_size": 31, "num_layers": 2, "num_heads": 4, "width": 32, "max_length": 16, "dropout": 0.0}
rng = np.random.default_rng(0)
TOKENS = jnp.asarray(rng.integers(0, 29, (2, 12)))
SEGMENTS = np.repeat([[0, 1]], 2, 0).repeat(6, 1)
MASK = np.arange(12) < np.array([[12], [9]])
POSITIONS = np.array([[1, 5, 7], [0, 2, 8]])


def make(**kwargs):
    """A model, and parameters far from their initial values: every weight N(0, 0.2^2)."""
    model = BertForPretraining(Encoder(**SMALL | kwargs))
    shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    rng = np.random.default_rng(1)
    return model, jax.tree.map(lambda a: jnp.float32(0.2 * rng.normal(size=a.shape)), shapes)


@partial(jax.jit, static_argnums=0)
def apply(model, variables, *inputs):
    return model.apply(variables, *inputs)


@partial(jax.jit, static_argnums=0)
def encode(model, variables, *inputs):
    return model.encoder.apply({"params": variables["params"]["encoder"]}, *inputs)


def test_parameter_counts():
    def count(model):
        return sum(x.size for x in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0), TOKENS)))

    # BERT-base of the paper's release, with its two heads; 109,482,240 without them.
    base = Encoder(vocab_size=30522, num_layers=12, num_heads=12, width=768, max_length=512)
    D, V = 768, 30522
    pooler, heads = D * D + D, D * D + D + 2 * D + V + 2 * D + 2
    assert count(base) + pooler == 109_482_240
    assert count(BertForPretraining(base)) == 109_482_240 + heads == 110_106_428
    assert count(BertForPretraining(base.clone(scan=True))) == 110_106_428
    # Turc et al. 2019, 1908.08962, Table 1: 4.4 and 11.3 million, poolers included.
    tiny = Encoder(vocab_size=V, num_layers=2, num_heads=2, width=128, max_length=512)
    mini = tiny.clone(num_layers=4, num_heads=4, width=256)
    assert [round((count(m) + d * d + d) / 1e6, 1) for m, d in ((tiny, 128), (mini, 256))] == [4.4, 11.2]


def test_initial_weights():
    model = BertForPretraining(Encoder(**SMALL | {"width": 128}))
    params = jax.jit(model.init)(jax.random.key(0), TOKENS)["params"]
    found = {path_name(p): np.asarray(v) for p, v in jax.tree_util.tree_leaves_with_path(params)}
    # A normal cut at two deviations has 0.8796 of its deviation.
    for path in ("tokens/embedding", "h_0/attention/qkv/kernel", "h_1/feed_forward/down/kernel"):
        weights = found[f"encoder/{path}"]
        assert weights.std() == pytest.approx(0.02 * 0.8796, rel=0.03) and np.abs(weights).max() <= 0.04
    assert all(not v.any() for k, v in found.items() if k.endswith("bias"))
    assert all((v == 1).all() for k, v in found.items() if k.endswith("scale"))


def test_padding_is_seen_by_none_and_all_else_by_all():
    model, variables = make()
    plain = encode(model, variables, TOKENS, MASK)
    changed = np.where(MASK, TOKENS, (TOKENS + 1) % 31)
    np.testing.assert_array_equal(plain[MASK], encode(model, variables, changed, MASK)[MASK])
    np.testing.assert_allclose(plain[1, :9], encode(model, variables, TOKENS[1:, :9])[0], atol=1e-5)
    changed = np.array(TOKENS)
    changed[:, 4] = (changed[:, 4] + 1) % 31
    assert (np.abs(plain - encode(model, variables, changed, MASK))[MASK].max(-1) > 1e-4).all()  # before and after


def test_documents_do_not_see_one_another():
    model, variables = make()
    documents = np.array([[0] * 5 + [1] * 7, [3] * 12])
    plain = encode(model, variables, TOKENS, None, SEGMENTS, documents)
    changed = np.array(TOKENS)
    changed[0, 8] = (changed[0, 8] + 1) % 31
    other = encode(model, variables, changed, None, SEGMENTS, documents)
    np.testing.assert_array_equal(plain[0, :5], other[0, :5])
    assert (np.abs(plain - other)[0, 5:].max(-1) > 1e-4).all()
    np.testing.assert_allclose(
        plain[0, :5], encode(model, variables, TOKENS[:1, :5], None, SEGMENTS[:1, :5])[0], atol=1e-5
    )
    both = encode(model, variables, TOKENS, MASK, SEGMENTS, documents)
    np.testing.assert_allclose(both[1], encode(model, variables, TOKENS, MASK, SEGMENTS)[1], atol=1e-5)


def test_logits_at_positions_are_those_of_all():
    model, variables = make()
    whole = apply(model, variables, TOKENS, MASK, SEGMENTS)
    some = apply(model, variables, TOKENS, MASK, SEGMENTS, POSITIONS)
    assert whole["mlm"].shape == (2, 12, 31) and some["mlm"].shape == (2, 3, 31)
    np.testing.assert_allclose(some["mlm"], np.take_along_axis(whole["mlm"], POSITIONS[..., None], 1), atol=1e-5)
    np.testing.assert_allclose(some["nsp"], whole["nsp"], atol=1e-6)


def test_the_head_is_tied_to_the_table_of_tokens():
    model, variables = make()
    before = np.asarray(apply(model, variables, TOKENS)["mlm"])
    tokens = variables["params"]["encoder"]["tokens"]
    absent = int(np.setdiff1d(np.arange(31), TOKENS)[0])
    # A token that the text lacks: only its own logit can change.
    tokens["embedding"] = tokens["embedding"].at[absent].add(1.0)
    after = apply(model, variables, TOKENS)["mlm"]
    changed = np.abs(after - before).max((0, 1))
    assert changed[absent] > 0.1 and np.delete(changed, absent).max() == 0


def test_pooler_by_hand():
    x = jnp.float32(rng.normal(size=(3, 5, 4)))
    w = {"dense": {"kernel": rng.normal(size=(4, 4)).astype("f"), "bias": rng.normal(size=4).astype("f")}}
    want = np.tanh(x[:, 0] @ w["dense"]["kernel"] + w["dense"]["bias"])
    np.testing.assert_allclose(Pooler().apply({"params": w}, x), want, atol=1e-6)


def stacked(params):
    encoder = {k: v for k, v in params["encoder"].items() if not k.startswith("h_")}
    layers = [params["encoder"][f"h_{i}"] for i in range(2)]
    return {**params, "encoder": {**encoder, "h": jax.tree.map(lambda *x: jnp.stack(x), *layers)}}


def test_scan_with_remat_equals_the_plain_model():
    model, variables = make()

    def loss(params, model, convert):
        out = model.apply({"params": convert(params)}, TOKENS, jnp.asarray(MASK), jnp.asarray(SEGMENTS))
        return -jnp.mean(jax.nn.log_softmax(out["mlm"])[..., 0]), out

    grad = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=(1, 2))
    (_, want), want_grads = grad(variables["params"], model, dict)
    scanned = BertForPretraining(model.encoder.clone(scan=True, remat=True))
    (_, got), grads = grad(variables["params"], scanned, stacked)
    jax.tree.map(partial(np.testing.assert_allclose, atol=2e-5), (got, grads), (want, want_grads))


def test_dropout():
    model, variables = make(dropout=0.3)

    @jax.jit
    def run(key):
        return model.apply(variables, TOKENS, train=True, rngs={"dropout": key})["mlm"]

    one, two = jax.random.split(jax.random.key(0))
    np.testing.assert_array_equal(run(one), run(one))
    assert np.abs(run(one) - run(two)).max() > 0.1
    plain = apply(BertForPretraining(model.encoder.clone(dropout=0.0)), variables, TOKENS)["mlm"]
    np.testing.assert_array_equal(apply(model, variables, TOKENS)["mlm"], plain)


def test_logits_are_f32_under_bf16_parameters():
    model, variables = make()
    half = apply(model, jax.tree.map(lambda a: a.astype(jnp.bfloat16), variables), TOKENS)
    whole = apply(model, variables, TOKENS)
    for name in ("mlm", "nsp"):
        assert half[name].dtype == jnp.float32
        assert np.abs(half[name] - whole[name]).std() < 0.05 * whole[name].std()


@pytest.mark.skipif(jax.device_count() < 4, reason="wants four devices")
@pytest.mark.parametrize("rules", SHARDING)
def test_sharded_logits_equal_whole_ones(rules):
    model, variables = make()
    want = apply(model, variables, TOKENS, MASK, SEGMENTS, POSITIONS)
    mesh = make_mesh({"data": 2, "model": 2}, jax.devices()[:4])
    with jax.set_mesh(mesh):
        placed = shardings(variables, SHARDING[rules], mesh)
        got = apply(model, jax.device_put(variables, placed), TOKENS, MASK, SEGMENTS, POSITIONS)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), got, want)


@pytest.mark.parametrize(
    "kwargs, words",
    [
        ({"width": 30}, "model.width=30 does not divide by model.num_heads=4"),
        ({"num_layers": 0}, "model.num_layers=0: want at least 1"),
        ({"num_segments": 0}, "model.num_segments=0: want at least 1"),
        ({"mlp": "gelu_exct"}, "did you mean 'gelu_exact'?"),
        ({"dropout": 1.0}, "model.dropout=1.0"),
    ],
)
def test_bad_attributes(kwargs, words):
    with pytest.raises(UserError, match=words.replace("?", r"\?")) as caught:
        Encoder(**SMALL | kwargs)
    assert "\n" not in str(caught.value)


def test_a_row_that_is_too_long():
    model, variables = make()
    with pytest.raises(UserError, match="17 tokens .* 16"):
        model.apply(variables, jnp.zeros((1, 17), np.int32))


def from_transformers(w, num_layers, num_heads):
    """The arrays of transformers' BertForPreTraining -> parameters."""

    def linear(name):
        return {"kernel": w[f"{name}.weight"].T, "bias": w[f"{name}.bias"]}

    def norm(name):
        return {"scale": w[f"{name}.weight"], "bias": w[f"{name}.bias"]}

    def qkv(name):  # columns by head: its query, its key, its value
        parts = [linear(f"{name}.{part}") for part in ("query", "key", "value")]
        split = {n: [p[n].reshape(*p[n].shape[:-1], num_heads, 1, -1) for p in parts] for n in parts[0]}
        return {n: np.concatenate(ps, -2).reshape(*ps[0].shape[:-3], -1) for n, ps in split.items()}

    encoder = {
        ours: {"embedding": w[f"bert.embeddings.{theirs}_embeddings.weight"]}
        for ours, theirs in {"tokens": "word", "position": "position", "segment": "token_type"}.items()
    }
    encoder["embedding_norm"] = norm("bert.embeddings.LayerNorm")
    for i in range(num_layers):
        h = f"bert.encoder.layer.{i}"
        encoder[f"h_{i}"] = {
            "attention": {"qkv": qkv(f"{h}.attention.self"), "out": linear(f"{h}.attention.output.dense")},
            "attention_norm": norm(f"{h}.attention.output.LayerNorm"),
            "feed_forward": {"up": linear(f"{h}.intermediate.dense"), "down": linear(f"{h}.output.dense")},
            "feed_forward_norm": norm(f"{h}.output.LayerNorm"),
        }
    head = "cls.predictions"
    return {
        "encoder": encoder,
        "pooler": {"dense": linear("bert.pooler.dense")},
        "mlm": {
            "dense": linear(f"{head}.transform.dense"),
            "norm": norm(f"{head}.transform.LayerNorm"),
            "bias": w[f"{head}.bias"],
        },
        "nsp": linear("cls.seq_relationship"),
    }


@pytest.mark.parity
def test_equals_transformers():
    torch, hf = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = hf.BertConfig(
        vocab_size=31, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=16,
    )  # fmt: skip
    network = hf.BertForPreTraining(config)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.2)
        inputs = {"input_ids": TOKENS, "attention_mask": MASK.astype(int), "token_type_ids": SEGMENTS}
        want = network.eval()(**{k: torch.tensor(v) for k, v in inputs.items()})
    params = from_transformers({k: v.detach().numpy() for k, v in network.state_dict().items()}, 2, 4)
    model = BertForPretraining(Encoder(**SMALL, mlp_width=48))
    got = apply(model, {"params": params}, TOKENS, MASK, SEGMENTS)
    np.testing.assert_allclose(np.asarray(got["mlm"])[MASK], want.prediction_logits.numpy()[MASK], atol=1e-4)
    np.testing.assert_allclose(got["nsp"], want.seq_relationship_logits.numpy(), atol=1e-4)

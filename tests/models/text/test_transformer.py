from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core.mesh import make_mesh, path_name, shardings
from research.models.text.transformer import SHARDING, Transformer, copied
from research.util.errors import UserError

SMALL = {
    "vocab_size": 31, "encoder_layers": 2, "decoder_layers": 2, "num_heads": 4, "width": 32, "mlp_width": 48, "max_length": 16,
}  # fmt: skip
OTHER = {
    "pre_norm": True, "positions": "learned", "shared": False, "source_vocab_size": 40, "tied": False, "mlp": "swiglu",
    "scale_embedding": False, "final_bias": True,
}  # fmt: skip
SOURCE = jnp.asarray(np.random.default_rng(0).integers(0, 31, (2, 7)))
MASK = jnp.arange(7) < jnp.array([[7], [4]])
TOKENS = jnp.asarray(np.random.default_rng(1).integers(0, 31, (2, 12)))


def make(**kwargs):
    """A model, and parameters far from their initial values: every weight N(0, 0.2^2)."""
    model = Transformer(**SMALL | kwargs)
    shapes = jax.eval_shape(model.init, jax.random.key(0), SOURCE, MASK, TOKENS)
    rng = np.random.default_rng(1)
    return model, jax.tree.map(lambda a: jnp.float32(0.2 * rng.normal(size=a.shape)), shapes)


@partial(jax.jit, static_argnums=0)
def apply(model, variables, source, mask, tokens):
    return model.apply(variables, source, mask, tokens)


def count(model):
    one = jnp.zeros((1, 1), jnp.int32)
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0), one, one, one)))


def test_parameter_counts():
    # Vaswani 2017, base, 37,000 shared types: 6 (4 D^2 + 2 D F) + 6 (8 D^2 + 2 D F) weights, their biases and norms.
    D, F, V = 512, 2048, 37_000
    encoder = 4 * D * D + 4 * D + 2 * D * F + F + D + 4 * D
    decoder = 8 * D * D + 8 * D + 2 * D * F + F + D + 6 * D
    base = Transformer(V, encoder_layers=6, decoder_layers=6, num_heads=8, width=D, mlp_width=F, max_length=256)
    assert count(base) == V * D + 6 * encoder + 6 * decoder == 63_082_496  # "65 M" in Table 3
    apart = base.clone(shared=False, source_vocab_size=30_000, tied=False, pre_norm=True)
    assert count(apart) == count(base) + 30_000 * D + V * D + 4 * D


def test_initial_weights():
    model = Transformer(**SMALL | {"width": 128, "mlp_width": 512})
    params = jax.jit(model.init)(jax.random.key(0), SOURCE, MASK, TOKENS)["params"]
    leaves = {path_name(p): v for p, v in jax.tree_util.tree_leaves_with_path(params)}
    assert leaves["tokens/embedding"].std() == pytest.approx(128**-0.5, rel=0.05)
    # Glorot: U(+-sqrt(6 / (in + out))); the joint kernels are of [D, D] matrices with gain 1 / sqrt(2).
    assert np.abs(leaves["decoder_0/attention/qkv/kernel"]).max() == pytest.approx((3 / 256) ** 0.5, rel=0.01)
    assert np.abs(leaves["decoder_1/cross_attention/kv/kernel"]).max() == pytest.approx((3 / 256) ** 0.5, rel=0.01)
    assert np.abs(leaves["encoder_0/feed_forward/up/kernel"]).max() == pytest.approx((6 / 640) ** 0.5, rel=0.01)
    assert not any(v.any() for k, v in leaves.items() if k.endswith("bias"))


@pytest.mark.parametrize("kwargs", [{}, OTHER], ids=["post-norm", "pre-norm"])
def test_what_each_token_may_see(kwargs):
    model, variables = make(**kwargs)
    want = np.asarray(apply(model, variables, SOURCE, MASK, TOKENS))
    later, hidden, shown = np.array(TOKENS), np.array(SOURCE), np.array(SOURCE)
    later[:, 7] = (later[:, 7] + 1) % 31
    hidden[1, 5] = (hidden[1, 5] + 1) % 31
    shown[1, 3] = (shown[1, 3] + 1) % 31
    got = np.asarray(apply(model, variables, SOURCE, MASK, later))
    np.testing.assert_array_equal(got[:, :7], want[:, :7])
    assert (np.abs(got - want)[:, 7:].max(-1) > 1e-4).all()  # all that may see the token does
    np.testing.assert_array_equal(apply(model, variables, hidden, MASK, TOKENS), want)
    got = np.asarray(apply(model, variables, shown, MASK, TOKENS))
    np.testing.assert_array_equal(got[0], want[0])
    assert (np.abs(got - want)[1].max(-1) > 1e-4).all()


@pytest.mark.parametrize("kwargs", [{}, OTHER], ids=["post-norm", "pre-norm"])
def test_cached_logits_equal_uncached(kwargs):
    model, variables = make(**kwargs)
    want = apply(model, variables, SOURCE, MASK, TOKENS)
    memory = jax.jit(partial(model.apply, method="encode"))(variables, SOURCE, MASK)
    step = jax.jit(partial(model.apply, method="decode"))
    parts, cache = [], model.init_cache(2, 14)
    for begin, end in [(0, 6), (6, 7), (7, 8), (8, 11), (11, 12)]:  # a beginning, tokens, a chunk
        logits, cache = step(variables, TOKENS[:, begin:end], memory, cache)
        parts.append(logits)
    assert cache["index"] == 12
    np.testing.assert_allclose(np.concatenate(parts, 1), want, atol=1e-5)


def gated(variables, bias):
    """The same parameters with a gate of sigmoid(bias) for every token."""
    gate = {"kernel": jnp.zeros((32, 1)), "bias": jnp.full(1, bias)}
    return {"params": {**variables["params"], "gate": gate}}


@pytest.mark.parametrize("kwargs", [{}, {"pre_norm": True, "tied": False, "final_bias": True}], ids=["post", "pre"])
def test_a_gate_of_one_is_the_plain_model_and_of_zero_the_attention(kwargs):
    model, variables = make(copy=True, **kwargs)
    plain, arrays = make(**kwargs)
    given = gated(arrays, 40.0)  # its sigmoid is 1 in f32
    want = jax.nn.log_softmax(apply(plain, arrays, SOURCE, MASK, TOKENS))
    np.testing.assert_allclose(apply(model, given, SOURCE, MASK, TOKENS), want, atol=1e-5)

    _, sown = plain.apply(arrays, SOURCE, MASK, TOKENS, mutable="intermediates")
    weights = sown["intermediates"]["decoder_1"]["cross_attention"]["weights"][0].mean((1, 2))  # [B, T, S]
    summed = np.zeros((2, 12, 31))
    for b in range(2):
        for s in range(7):
            summed[b, :, SOURCE[b, s]] += weights[b, :, s]
    got = np.exp(apply(model, gated(arrays, -40.0), SOURCE, MASK, TOKENS))
    np.testing.assert_allclose(got, summed, atol=1e-6)
    half = np.exp(apply(model, gated(arrays, 0.0), SOURCE, MASK, TOKENS))
    np.testing.assert_allclose(half, (np.exp(want) + summed) / 2, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_copying_probabilities_are_whole_and_finite(dtype):
    model, variables = make(copy=True)
    for scale in (1.0, 30.0):  # the larger makes most probabilities of the vocabulary underflow
        given = jax.tree.map(lambda x: (x * scale).astype(dtype), variables)  # noqa: B023
        logp, back = jax.vjp(lambda v: model.apply(v, SOURCE, MASK, TOKENS), given)
        assert logp.dtype == jnp.float32 and np.isfinite(logp).all()
        np.testing.assert_allclose(np.exp(logp).sum(-1), 1, atol=1e-4)
        gradients = back(jnp.ones_like(logp))
        assert all(np.isfinite(np.asarray(x, np.float32)).all() for x in jax.tree.leaves(gradients))


def test_copying_with_a_cache_and_without():
    model, variables = make(copy=True)
    want = apply(model, variables, SOURCE, MASK, TOKENS)
    memory = model.apply(variables, SOURCE, MASK, method="encode")
    np.testing.assert_array_equal(memory["source"], SOURCE)
    cache, parts = model.init_cache(2, 12), []
    step = jax.jit(partial(model.apply, method="decode"))
    for t in range(12):
        logits, cache = step(variables, TOKENS[:, t : t + 1], memory, cache)
        parts.append(logits)
    np.testing.assert_allclose(np.concatenate(parts, 1), want, atol=1e-5)
    assert isinstance(model.apply(variables, SOURCE, MASK, TOKENS, defer_logits=True), jax.Array)


def test_a_token_twice_in_the_source_is_copied_with_both_weights():
    logits = jnp.log(jnp.array([[[0.1, 0.2, 0.7]]]))
    got = jnp.exp(
        copied(
            logits, jnp.log(jnp.full((1, 1, 1), 0.25 / 0.75)), jnp.array([[[0.5, 0.2, 0.3]]]), jnp.array([[1, 0, 1]])
        )
    )
    np.testing.assert_allclose(got, [[[0.25 * 0.1 + 0.75 * 0.2, 0.25 * 0.2 + 0.75 * 0.8, 0.25 * 0.7]]], rtol=1e-5)


@pytest.mark.parametrize("name", ["dropout", "attention_dropout", "activation_dropout"])
def test_dropout(name):
    model, variables = make(**{name: 0.3})

    @jax.jit
    def run(key):
        return model.apply(variables, SOURCE, MASK, TOKENS, train=True, rngs={"dropout": key})

    one, two = jax.random.split(jax.random.key(0))
    plain = apply(model.clone(**{name: 0.0}), variables, SOURCE, MASK, TOKENS)
    np.testing.assert_array_equal(run(one), run(one))
    assert np.abs(run(one) - run(two)).max() > 0.02
    np.testing.assert_array_equal(apply(model, variables, SOURCE, MASK, TOKENS), plain)
    assert np.abs(run(one) - plain).max() > 0.02


@pytest.mark.skipif(jax.device_count() < 4, reason="wants four devices")
@pytest.mark.parametrize("rules", SHARDING)
def test_sharded_logits_equal_whole_ones(rules):
    model, variables = make(source_vocab_size=31, shared=False)
    want = apply(model, variables, SOURCE, MASK, TOKENS)
    mesh = make_mesh({"data": 2, "model": 2}, jax.devices()[:4])
    with jax.set_mesh(mesh):
        split = jax.device_put(variables, shardings(variables, SHARDING[rules], mesh))
        got = apply(model, split, SOURCE, MASK, TOKENS)
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize(
    "kwargs, words",
    [
        ({"width": 30}, "model.width=30 does not divide by model.num_heads=4"),
        ({"width": 33, "num_heads": 3}, "even model.width, not 33"),
        ({"decoder_layers": 0}, "model.decoder_layers=0: want at least 1"),
        ({"positions": "sinusodial"}, "did you mean 'sinusoidal'?"),
        ({"mlp": "maxout"}, "unknown model.mlp 'maxout'"),
        ({"source_vocab_size": 40}, "40 tokens of the source, 31 of the target"),
        ({"copy": True, "shared": False}, "it wants one vocabulary, model.shared=True"),
        ({"attention_dropout": 1.0}, "model.attention_dropout=1.0"),
    ],
)
def test_bad_attributes(kwargs, words):
    with pytest.raises(UserError, match=words.replace("?", r"\?")) as caught:
        Transformer(**SMALL | kwargs)
    assert "\n" not in str(caught.value)


def test_bad_lengths():
    model, variables = make()
    with pytest.raises(UserError, match="17 tokens .* max_length=16"):
        model.apply(variables, SOURCE, MASK, jnp.zeros((2, 17), np.int32))
    with pytest.raises(UserError, match="cache length 17"):
        model.init_cache(1, 17)
    memory = model.apply(variables, SOURCE, MASK, method="encode")
    with pytest.raises(UserError, match="5 tokens .* 4"):
        model.apply(variables, jnp.zeros((2, 5), np.int32), memory, model.init_cache(2, 4), method="decode")


def marian(w, layers, heads):
    """The arrays of a transformers Marian by its own names -> our parameters (post-norm, shared, tied, final_bias)."""

    def linear(name):
        return {"kernel": w[f"{name}.weight"].T, "bias": w[f"{name}.bias"]}

    def norm(name):
        return {"scale": w[f"{name}.weight"], "bias": w[f"{name}.bias"]}

    def joint(name, *parts):  # columns head by head: each head's parts in turn
        found = [linear(f"{name}.{part}_proj") for part in parts]

        def merge(*arrays):
            split = [a.reshape(*a.shape[:-1], heads, -1) for a in arrays]
            return np.stack(split, -2).reshape(*arrays[0].shape[:-1], -1)

        return jax.tree.map(merge, *found)

    def layer(h, cross):
        out = {
            "attention": {"qkv": joint(f"{h}.self_attn", *"qkv"), "out": linear(f"{h}.self_attn.out_proj")},
            "attention_norm": norm(f"{h}.self_attn_layer_norm"),
            "feed_forward": {"up": linear(f"{h}.fc1"), "down": linear(f"{h}.fc2")},
            "feed_forward_norm": norm(f"{h}.final_layer_norm"),
        }
        if cross:
            a = f"{h}.encoder_attn"
            out["cross_attention"] = {
                "q": linear(f"{a}.q_proj"), "kv": joint(a, *"kv"), "out": linear(f"{a}.out_proj"),
            }  # fmt: skip
            out["cross_attention_norm"] = norm(f"{a}_layer_norm")
        return out

    params = {f"{part}_{i}": layer(f"model.{part}.layers.{i}", part == "decoder")
              for part in ("encoder", "decoder") for i in range(layers)}  # fmt: skip
    return params | {"tokens": {"embedding": w["model.shared.weight"]}, "final_bias": w["final_logits_bias"][0]}


@pytest.mark.parity
@pytest.mark.parametrize("ours, theirs", [("silu", "swish"), ("relu", "relu"), ("gelu_exact", "gelu")])
def test_equals_transformers_marian(ours, theirs):
    torch, hf = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = hf.MarianConfig(
        vocab_size=31, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=16, scale_embedding=True, activation_function=theirs,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, attn_implementation="eager",
    )  # fmt: skip
    network = hf.MarianMTModel(config).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, x in [*network.named_parameters(), *network.named_buffers()]:
            if "embed_positions" not in name:
                x.normal_(0, 0.2)
        want = network(
            torch.tensor(np.asarray(SOURCE)),
            attention_mask=torch.tensor(np.asarray(MASK)),
            decoder_input_ids=torch.tensor(np.asarray(TOKENS)),
        ).logits.numpy()
    w = {k: v.numpy() for k, v in network.state_dict().items()}
    model = Transformer(**SMALL, mlp=ours, final_bias=True)
    got = apply(model, {"params": marian(w, 2, 4)}, SOURCE, MASK, TOKENS)
    np.testing.assert_allclose(got, want, atol=1e-4)

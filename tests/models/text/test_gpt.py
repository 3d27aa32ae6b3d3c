from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from research.core.mesh import make_mesh, path_name, shardings
from research.interop import huggingface
from research.models.text.gpt import GPT, SHARDING, stack, unstack
from research.util.errors import UserError

SMALL = {"vocab_size": 31, "num_layers": 2, "num_heads": 4, "width": 32, "max_length": 16}
LLAMA = {
    "positions": "rotary",
    "norm": "rmsnorm",
    "mlp": "swiglu",
    "mlp_width": 48,
    "kv_heads": 2,
    "tied": False,
}
EXPERTS = {"experts": 4}
DENSE = [rules for rules in SHARDING if rules != "expert"]
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 31, (2, 12)))


def make(**kwargs):
    """A model, and parameters far from their initial values: every weight N(0, 0.2^2)."""
    model = GPT(**SMALL | kwargs)
    shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    rng = np.random.default_rng(1)
    return model, jax.tree.map(lambda a: jnp.float32(0.2 * rng.normal(size=a.shape)), shapes)


@partial(jax.jit, static_argnums=0)
def apply(model, variables, tokens):
    return model.apply(variables, tokens)


def count(model):
    tree = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_parameter_counts():
    # nanoGPT on a CPU: 4 blocks of 12 D^2 weights and two scales, last scale, two embeddings.
    D = 128
    nano = {"vocab_size": 65, "num_layers": 4, "num_heads": 4, "width": D, "max_length": 64}
    assert count(GPT(**nano)) == 4 * (12 * D**2 + 2 * D) + D + 65 * D + 64 * D == 804_096
    assert count(GPT(**nano, scan=True)) == 804_096
    gpt2 = {
        "vocab_size": 50257,
        "num_layers": 12,
        "num_heads": 12,
        "width": 768,
        "max_length": 1024,
    }
    assert count(GPT(**gpt2, bias=True)) == 124_439_808  # GPT-2's published checkpoint
    llama = LLAMA | {"kv_heads": None, "mlp_width": 11008}  # Llama 2 7B's published checkpoint
    llama |= {
        "vocab_size": 32000,
        "num_layers": 32,
        "num_heads": 32,
        "width": 4096,
        "max_length": 4096,
    }
    assert count(GPT(**llama, scan=True)) == 6_738_415_616
    # Eight experts of half the width and a router, for one feed-forward layer.
    assert count(GPT(**nano, mlp_width=2 * D, experts=8)) == 804_096 + 4 * (8 * D + 8 * 4 * D**2 - 8 * D**2)
    # Three matrices of 8/3 D = 341.3 units, up to 384, for two of 4 D = 512.
    assert count(GPT(**nano, mlp="swiglu")) == 804_096 + 4 * D * (3 * 384 - 2 * 512)


def test_initial_weights():
    model = GPT(**SMALL | {"num_layers": 8, "width": 128, "scan": True})
    params = jax.jit(model.init)(jax.random.key(0), TOKENS)["params"]
    spread = {path_name(p): v.std() for p, v in jax.tree_util.tree_leaves_with_path(params)}
    assert spread["tokens/embedding"] == pytest.approx(0.02, rel=0.05)
    assert spread["h/attention/qkv/kernel"] == pytest.approx(0.02, rel=0.02)
    assert spread["h/attention/out/kernel"] == pytest.approx(0.02 / 4, rel=0.02)  # sqrt(2 * 8) = 4
    assert spread["h/feed_forward/down/kernel"] == pytest.approx(0.02 / 4, rel=0.02)
    layers = params["h"]["attention"]["qkv"]["kernel"]
    assert not np.allclose(layers[0], layers[1])  # scan draws each layer's own


@pytest.mark.parametrize("kwargs", [{}, LLAMA], ids=["gpt", "llama"])
def test_causality(kwargs):
    model, variables = make(**kwargs)
    changed = np.array(TOKENS)
    changed[:, 7] = (changed[:, 7] + 1) % 31
    a, b = (np.asarray(apply(model, variables, x)) for x in (TOKENS, changed))
    np.testing.assert_array_equal(a[:, :7], b[:, :7])
    assert (np.abs(a - b)[:, 7:].max(-1) > 1e-4).all()  # all that may see the token does


@pytest.mark.parametrize(
    "kwargs, changes",
    [
        ({"bias": True}, {"scan": True}),
        ({"bias": True}, {"remat": True}),
        (LLAMA | {"experts": 3}, {"scan": True, "remat": True}),
    ],
)
def test_scan_and_remat_equal_the_plain_model(kwargs, changes):
    model, variables = make(**kwargs)

    def loss(params, model, convert):
        logits = model.apply({"params": convert(params)}, TOKENS)
        return -jnp.mean(jax.nn.log_softmax(logits)[..., 0]), logits

    grad = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=(1, 2))
    convert = stack if "scan" in changes else dict
    (_, want), want_grads = grad(variables["params"], model, dict)
    (_, got), grads = grad(variables["params"], model.clone(**changes), convert)
    np.testing.assert_allclose(got, want, atol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(want_grads), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("scan", [False, True])
def test_the_router_reports_from_every_layer(scan):
    model, variables = make(**EXPERTS, scan=scan)
    assert "routing" not in jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    seen = jax.jit(lambda v: model.apply(v, TOKENS, mutable=["routing"])[1])(variables)
    loads = [x for x in jax.tree.leaves(seen) if x.shape[-1:] == (4,)]
    assert sum(x.size for x in loads) == 2 * 4
    assert sum(float(x.sum()) for x in loads) == pytest.approx(2)


@partial(jax.jit, static_argnums=0)
def apply_packed(model, variables, tokens, segments, places):
    return model.apply(variables, tokens, segment_ids=segments, position_ids=places)


@pytest.mark.parametrize("kwargs", [{}, {"scan": True}, LLAMA], ids=["gpt", "scan", "llama"])
def test_nothing_crosses_documents(kwargs):
    """Three documents and a rest in a window of 16: each has the logits that it has alone, to the bit whatever
    stands in the others."""
    model, variables = make(**kwargs)
    sizes = [5, 5, 5, 1]
    segments = np.repeat([1, 2, 3, 0], sizes)[None]
    places = np.concatenate([np.arange(n) for n in sizes])[None]
    tokens = np.random.default_rng(2).integers(0, 31, (1, 16))
    whole = apply_packed(model, variables, tokens, segments, places)
    for s in (0, 1, 2, 3):
        here = segments[0] == s
        other = np.where(here, tokens, (tokens + 7) % 31)
        changed = apply_packed(model, variables, other, segments, places)
        np.testing.assert_array_equal(changed[0, here], whole[0, here])
        assert (np.abs(changed[0, ~here] - whole[0, ~here]).max(-1) > 0).all()
    alone = apply(model, variables, tokens[0, :15].reshape(3, 5))
    np.testing.assert_allclose(alone, whole[0, :15].reshape(3, 5, -1), rtol=1e-4, atol=1e-4)
    one = apply_packed(model, variables, tokens, np.ones_like(segments), np.arange(16)[None])
    np.testing.assert_allclose(one, apply(model, variables, tokens), rtol=1e-5, atol=1e-5)


def test_unstack_is_the_inverse_of_stack():
    _, variables = make(**LLAMA)
    back = unstack(stack(variables["params"]))
    jax.tree.map(np.testing.assert_array_equal, back, variables["params"])


@pytest.mark.parametrize("scan", [False, True])
def test_dropout(scan):
    model, variables = make(dropout=0.3, scan=scan)

    @jax.jit
    def run(key):
        return model.apply(variables, TOKENS, train=True, rngs={"dropout": key})

    one, two = jax.random.split(jax.random.key(0))
    np.testing.assert_array_equal(run(one), run(one))
    assert np.abs(run(one) - run(two)).max() > 0.1
    plain = apply(model.clone(dropout=0.0), variables, TOKENS)
    np.testing.assert_array_equal(apply(model, variables, TOKENS), plain)
    assert np.abs(run(one) - plain).max() > 0.1


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("kwargs", [{"bias": True}, {"kv_heads": 1}, LLAMA | {"experts": 3}])
def test_cached_logits_equal_uncached(kwargs, scan):
    model, variables = make(scan=scan, **kwargs)
    whole = apply(model, variables, TOKENS)
    step = jax.jit(lambda tokens, cache: model.apply(variables, tokens, cache=cache))
    parts, cache = [], model.init_cache(2, 14)
    for begin, end in [(0, 6), (6, 7), (7, 8), (8, 11), (11, 12)]:  # a prompt, tokens, a chunk
        logits, cache = step(TOKENS[:, begin:end], cache)
        parts.append(logits)
    assert cache["index"] == 12
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-5)


@pytest.mark.parametrize("kwargs", [{}, LLAMA, {"scan": True}])
def test_rows_of_a_cache_may_hold_different_numbers_of_tokens(kwargs):
    """Each row reads on from its own place, whatever an earlier use left behind it."""
    model, variables = make(**kwargs)
    whole = apply(model, variables, TOKENS)
    step = jax.jit(lambda tokens, cache: model.apply(variables, tokens, cache=cache))
    _, cache = step(TOKENS[:, :8], model.init_cache(2, 12))
    held = np.array([3, 7])
    chunk = np.stack([row[n : n + 3] for row, n in zip(TOKENS, held, strict=True)])
    logits, cache = step(chunk, cache | {"index": jnp.asarray(held)})
    np.testing.assert_array_equal(cache["index"], held + 3)
    for row, n in enumerate(held):
        np.testing.assert_allclose(logits[row], whole[row, n : n + 3], atol=1e-5)


def test_logits_are_f32_under_bf16_parameters():
    for kwargs in ({}, LLAMA):
        model, variables = make(**kwargs)
        half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), variables)
        logits = apply(model, half, TOKENS)
        assert logits.dtype == jnp.float32
        assert not np.array_equal(logits, logits.astype(jnp.bfloat16))  # never rounded to bf16
        # Eight bits of mantissa: a hundredth or two of the logits' own size.
        whole = apply(model, variables, TOKENS)
        assert np.abs(logits - whole).std() < 0.05 * whole.std()


@pytest.mark.parametrize("scan", [False, True])
def test_sharding_rules(scan):
    model = GPT(**SMALL | LLAMA | {"scan": scan})
    tree = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    mesh = make_mesh({"data": 1, "model": 1}, jax.devices()[:1])
    lead = (None,) if scan else ()
    layer = "params/h" if scan else "params/h_1"
    want = {
        "fsdp": {"attention/out": ("data", None), "feed_forward/gate": ("data", None)},
        "tensor": {"attention/qkv": (None, "model"), "feed_forward/down": ("model", None)},
        "fsdp_tensor": {"feed_forward/up": ("data", "model"), "attention/out": ("model", "data")},
    }
    for name, specs in want.items():  # `shardings` itself raises for a rule that matches nothing
        leaves = jax.tree_util.tree_leaves_with_path(shardings(tree, SHARDING[name], mesh))
        found = {path_name(path): tuple(leaf.spec) for path, leaf in leaves}
        for path, spec in specs.items():
            assert found[f"{layer}/{path}/kernel"] == lead + spec
        assert found["params/final_norm/scale"] == ()
        embedding = () if name == "tensor" else (None, "data")
        assert found["params/tokens/embedding"] == embedding


@pytest.mark.skipif(jax.device_count() < 4, reason="wants four devices")
@pytest.mark.parametrize(
    "rules, kwargs", [*((rules, {}) for rules in DENSE), *((rules, EXPERTS) for rules in SHARDING)]
)
def test_sharded_logits_equal_whole_ones(rules, kwargs):
    model, variables = make(**LLAMA | kwargs)
    want = apply(model, variables, TOKENS)
    mesh = make_mesh({"data": 2, "model": 2}, jax.devices()[:4])
    with jax.set_mesh(mesh):
        split = jax.device_put(variables, shardings(variables, SHARDING[rules], mesh))
        got = apply(model, split, TOKENS)
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize(
    "kwargs, words",
    [
        ({"width": 30}, "model.width=30 does not divide by model.num_heads=4"),
        ({"kv_heads": 3}, "model.kv_heads=3"),
        ({"num_layers": 0}, "model.num_layers=0: want at least 1"),
        ({"kv_heads": 0}, "model.kv_heads=0: want at least 1"),
        ({"positions": "rotory"}, "did you mean 'rotary'?"),
        ({"norm": "layer_norm"}, "did you mean 'layernorm'?"),
        ({"mlp": "maxout"}, "known: gelu, gelu_exact, relu, silu, swiglu"),
        ({"width": 36, "num_heads": 4, "positions": "rotary"}, "even"),
        ({"dropout": 1.0}, "model.dropout=1.0"),
        ({"experts": 0}, "model.experts=0: want at least 1"),
        ({"experts": 3, "experts_per_token": 4}, "model.experts_per_token=4 are more than model.experts=3"),
        ({"balance": -1.0}, "model.balance=-1.0: at least 0"),
        ({"head": False, "tied": False}, "model.head=False with model.tied=False: without a head"),
    ],
)
def test_bad_attributes(kwargs, words):
    with pytest.raises(UserError, match=words.replace("?", r"\?")) as caught:
        GPT(**SMALL | kwargs)
    assert "\n" not in str(caught.value)


def test_bad_lengths():
    model, variables = make()
    with pytest.raises(UserError, match="17 tokens .* 16"):
        model.apply(variables, jnp.zeros((1, 17), np.int32))
    with pytest.raises(UserError, match="cache length 17"):
        model.init_cache(1, 17)
    with pytest.raises(UserError, match="5 tokens .* 4"):
        model.apply(variables, jnp.zeros((1, 5), np.int32), cache=model.init_cache(1, 4))


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_equals_transformers(kind, tmp_path):
    """On the weights and the config that transformers writes: see research/interop/huggingface.py."""
    torch, hf = pytest.importorskip("torch"), pytest.importorskip("transformers")
    if kind == "gpt2":
        network = hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=31, n_layer=2, n_head=4, n_embd=32, n_positions=16))
    else:
        sizes = {"hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 16, "vocab_size": 31}
        heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
        network = hf.LlamaForCausalLM(hf.LlamaConfig(**sizes, **heads))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.eval().parameters():  # biases and scales, too
            parameter.normal_(0, 0.2)
        want = network(torch.tensor(np.asarray(TOKENS))).logits.numpy()
    network.save_pretrained(tmp_path)
    source = huggingface.read(tmp_path)
    params = traverse_util.unflatten_dict(source.arrays, sep="/")
    for scan in (False, True):
        model = GPT(**source.attributes, scan=scan)
        got = apply(model, {"params": stack(params) if scan else params}, TOKENS)
        np.testing.assert_allclose(got, want, atol=1e-4)

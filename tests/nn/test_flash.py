"""Which attention goes to cuDNN, and what is handed to it; the kernels themselves are in tests/nn/test_attention_gpu.py.

Without a GPU they are traced and lowered, which is all that needs none: what a cuDNN of 9.10 says is put in its place.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from research.core import flops
from research.core.mesh import make_mesh
from research.models.text.bert import Encoder
from research.models.text.gpt import GPT
from research.models.text.transformer import Transformer
from research.nn import flash
from research.nn.attention import attend

B, T, N, G, K = 2, 256, 2, 2, 8


def inputs(dtype=jnp.bfloat16, seed=0):
    q, k, v = (jax.random.normal(k, s, dtype) for k, s in zip(
        jax.random.split(jax.random.key(seed), 3), [(B, T, N, G, K), (B, T, N, K), (B, T, N, K)], strict=True
    ))  # fmt: skip
    return q, k, v


@pytest.fixture
def gpu(monkeypatch):
    """As if the mesh were an Ampere GPU's."""
    monkeypatch.setattr(flash, "on_device", lambda: True)
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)


CAUSAL = jnp.tril(jnp.ones((T, T), bool))
KEYS = jnp.arange(T) % jnp.array([[3], [5]]) > 0  # padding here and there
MASKS = {
    "none": None,
    "causal": flash.Mask(CAUSAL, causal=True),
    "keys": flash.Mask(KEYS[:, None, None, None, :], KEYS),
}


def test_a_program_for_another_device_is_the_einsums():
    assert not flash.on_device()
    with jax.set_mesh(make_mesh({"data": 8})):
        assert not flash.on_device() and not flash.fits(*inputs()[:2], None)


def test_what_fits(gpu):
    q, k, _ = inputs()
    assert all(flash.fits(q, k, mask) for mask in MASKS.values())
    assert not flash.fits(q, k, CAUSAL), "an array alone does not say why"
    assert not flash.fits(*inputs(jnp.float32)[:2], None)
    assert not flash.fits(q[:, :1], k, None), "one token of a cache"
    assert not flash.fits(jnp.zeros((B, T, N, G, 256), q.dtype), jnp.zeros((B, T, N, 256), q.dtype), None)
    assert not flash.fits(jnp.zeros((B, T, N, G, 12), q.dtype), jnp.zeros((B, T, N, 12), q.dtype), None)


@pytest.mark.parametrize("name", MASKS)
def test_what_is_handed_over_says_the_mask(name, monkeypatch):
    """The same call through JAX's own plain implementation, in f32: values and gradients are the einsum's."""
    plain = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *a, **how: plain(*a, **how | {"implementation": "xla"}))
    slope = jax.random.normal(jax.random.key(9), (B, T, N, G, K))

    def run(attention):
        return jax.jit(jax.value_and_grad(lambda x: (attention(*x, MASKS[name]) * slope).sum()))(inputs(jnp.float32))

    got, expected = run(flash.attend), run(attend)
    for a, b in zip(*map(jax.tree.leaves, (got, expected)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max(), rtol=2e-5)


def test_a_row_of_padding_is_finite(monkeypatch):
    """Its length is given as 1, since none of 0 would divide by nothing."""
    seen = {}
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda q, *a, **how: seen.update(how) or q)
    keys = jnp.asarray([[False] * T, [True] * 7 + [False] * (T - 7)])
    flash.attend(*inputs(), flash.Mask(keys[:, None, None, None], keys))
    assert seen["key_value_seq_lengths"].tolist() == [1, 7]


def lowered(fn, *args):
    """StableHLO for CUDA of a value and its gradient."""
    return jax.jit(fn).trace(*args).lower(lowering_platforms=("cuda",)).as_text()


def squares(text):
    """The arrays of a program, other than the mask's bits, with T in two of their dimensions."""
    return {s for s in re.findall(r"tensor<([\dx]+)x(?:f32|bf16)>", text) if s.split("x").count(str(T)) > 1}


@pytest.mark.parametrize("name", MASKS)
def test_no_square_array_is_left(gpu, name):
    both = jax.grad(lambda x: flash.attend(*x, MASKS[name]).astype(jnp.float32).sum())
    text = lowered(both, inputs())
    assert text.count("__cudnn$fmhaSoftmax") == 2 and not squares(text)
    assert squares(lowered(jax.grad(lambda x: attend(*x, MASKS[name]).astype(jnp.float32).sum()), inputs()))


def test_flops_are_the_products(gpu):
    """The fused kernels count as the einsum does: two products forward, four backward."""
    counts = [
        flops.count(jax.make_jaxpr(jax.grad(lambda x: f(*x).astype(jnp.float32).sum()))(inputs()))  # noqa: B023
        for f in (flash.attend, attend)
    ]
    assert counts[0] == counts[1] == 6 * 2 * B * N * G * T * T * K


# Which models


def kernels(model, *args, dtype=jnp.bfloat16, **how):
    """cuDNN's kernels in a model's forward pass."""
    params = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, dtype), jax.eval_shape(model.init, jax.random.key(0), *args)
    )
    return lowered(lambda p, *a: model.apply(p, *a, **how), params, *args).count("__cudnn$fmhaSoftmax")


TOKENS = jnp.zeros((B, T), int)
KEEP = jnp.ones((B, T))
SIZES = {"vocab_size": 7, "num_heads": 2, "width": 32, "max_length": T}
KEY = {"train": True, "rngs": {"dropout": jax.random.key(0)}}


def test_the_models_use_it(gpu):
    gpt = GPT(**SIZES, num_layers=2, kv_heads=1)
    assert kernels(gpt, TOKENS) == 2
    assert kernels(gpt.clone(scan=True, remat=True), TOKENS) == 1
    assert kernels(gpt, TOKENS, train=True) == 2
    assert kernels(Encoder(**SIZES, num_layers=2), TOKENS, KEEP) == 2
    layers = {"encoder_layers": 1, "decoder_layers": 1, "mlp_width": 32}
    assert kernels(Transformer(**SIZES, **layers), TOKENS, KEEP, TOKENS) == 3


def test_the_einsum_where_cudnn_has_no_answer(gpu):
    gpt = GPT(**SIZES, num_layers=2)
    assert kernels(gpt, TOKENS, dtype=jnp.float32) == 0
    assert kernels(gpt, TOKENS, segment_ids=TOKENS) == 0
    assert kernels(gpt, TOKENS, mutable=["intermediates"]) == 0  # the weights are asked for
    assert kernels(gpt.clone(dropout=0.1), TOKENS, **KEY) == 0
    assert kernels(gpt.clone(dropout=0.1), TOKENS) == 2
    assert kernels(gpt, TOKENS, cache=gpt.init_cache(B, T, jnp.bfloat16)) == 0
    assert kernels(Encoder(**SIZES, num_layers=2), TOKENS, KEEP, None, TOKENS) == 0

"""cuDNN's attention beside the einsum, on a GPU: values and gradients in bf16, for each kind of mask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core.mesh import make_mesh
from research.nn import flash
from research.nn.attention import Attention, attend

pytestmark = pytest.mark.gpu
B, T, N, K = 2, 512, 2, 64


@pytest.fixture(autouse=True)
def on_gpu():
    with jax.set_mesh(make_mesh({"data": 1}, jax.devices("gpu")[:1])):
        if not flash.on_device():
            pytest.skip("cuDNN's attention needs a GPU of compute capability 8.0")
        yield


def mask(kind):
    causal = np.tril(np.ones((T, T), bool))
    keys = {
        "trailing": np.arange(T) < np.array([[T], [T // 3]]),
        "leading": np.arange(T) >= np.array([[5], [T // 2]]),
        "scattered": np.arange(T) % np.array([[3], [7]]) > 0,
    }
    if kind == "none":
        return None
    if kind == "causal":
        return flash.Mask(jnp.asarray(causal), causal=True)
    return flash.Mask(jnp.asarray(keys[kind][:, None, None, None]), jnp.asarray(keys[kind]))


def worst(got, expected):
    """The largest difference, of the largest element."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    return np.abs(got - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("kind", ["none", "causal", "trailing", "leading", "scattered"])
@pytest.mark.parametrize("groups", [1, 3])
def test_flash_equals_the_einsum(kind, groups):
    """Both against the einsum in f32: cuDNN's error is within bf16's rounding, and no more than thrice the einsum's own."""
    keys = jax.random.split(jax.random.key(0), 4)
    q, slope = (jax.random.normal(k, (B, T, N, groups, K), jnp.bfloat16) for k in keys[:2])
    k, v = (jax.random.normal(k, (B, T, N, K), jnp.bfloat16) for k in keys[2:])
    assert flash.fits(q, k, mask(kind))

    def run(attention, dtype):
        def both(q, k, v):
            y, back = jax.vjp(lambda *x: attention(*x, mask(kind)), q, k, v)
            return y, *back(slope.astype(dtype))

        return jax.jit(both)(*(x.astype(dtype) for x in (q, k, v)))

    with jax.default_matmul_precision("highest"):
        exact = run(attend, jnp.float32)
    for name, a, b, c in zip("yqkv", run(flash.attend, jnp.bfloat16), run(attend, jnp.bfloat16), exact, strict=True):
        assert a.dtype == jnp.bfloat16
        assert worst(a, c) < max(2**-7, 3 * worst(b, c)), name


def test_a_row_of_padding_is_finite():
    keys = jnp.asarray([[False] * T, [True] * T])
    q, k = jnp.ones((B, T, N, 1, K), jnp.bfloat16), jnp.ones((B, T, N, K), jnp.bfloat16)
    run = jax.jit(
        jax.value_and_grad(lambda q: flash.attend(q, k, k, flash.Mask(keys[:, None, None, None], keys)).sum())
    )
    assert all(np.isfinite(np.asarray(x, np.float32)).all() for x in run(q))


def test_a_layer_uses_it_and_holds_no_square():
    """A causal layer of 8,192 tokens: its gradient needs less room than an eighth of one f32 [H, T, T], 3.2 GB.

    Without deterministic kernels: cuDNN's deterministic gradient asks for a workspace of 2 H T^2 bytes.
    """
    H, length = 12, 8192
    layer = Attention(num_heads=H)
    x = jax.ShapeDtypeStruct((1, length, H * K), jnp.bfloat16)
    seen = flash.Mask(jnp.ones((1, 1), bool), causal=True)
    params = jax.eval_shape(layer.init, jax.random.key(0), x)
    params = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, jnp.bfloat16), params)
    step = jax.jit(jax.grad(lambda p, x: layer.apply(p, x, seen, train=True)[0].astype(jnp.float32).sum()))
    compiled = step.lower(params, x).compile({"xla_gpu_deterministic_ops": False})
    assert "__cudnn$fmha" in compiled.as_text()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * H * length**2 / 8

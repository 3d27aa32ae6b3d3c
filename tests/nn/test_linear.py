"""Products in bf16 on a CPU: exact operands, sums in f32, results rounded once; and elsewhere JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import mesh
from research.nn.linear import einsum, flat_dot

RNG = np.random.default_rng(0)


def bf16(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.bfloat16)


def f64(x):
    return np.asarray(x.astype(jnp.float32), np.float64)


@pytest.fixture(params=["cpu", None])
def platform(request, monkeypatch):
    monkeypatch.setattr(mesh, "platform", lambda: request.param)
    return request.param


def near(got, expected):
    """Within half a unit in the last place of bf16 (8 bits), and the f32 sums' error."""
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(f64(got), expected, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("contracted", [0, 1])
def test_flat_dot_and_its_gradients(platform, contracted):
    x, w, g = bf16(2, 3, 5), bf16(*((5, 4) if contracted == 0 else (4, 5))), bf16(2, 3, 4)
    dims = (((2,), (contracted,)), ((), ()))
    y, pullback = jax.vjp(lambda x, w: flat_dot(x, w, dims), x, w)
    dx, dw = pullback(g)
    matrix = f64(w) if contracted == 0 else f64(w).T
    near(y, f64(x) @ matrix)
    near(dx, f64(g) @ matrix.T)
    of_matrix = np.einsum("bti,bto->io", f64(x), f64(g))
    near(dw, of_matrix if contracted == 0 else of_matrix.T)


def test_sums_in_f32_are_not_rounded(platform):
    x, w = bf16(2, 3, 64), bf16(64, 4)
    y = flat_dot(x, w, (((2,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, f64(x) @ f64(w), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [None, jnp.float32])
def test_einsum_and_its_gradients(platform, dtype):
    spec = "btngk,bsnk->bngts"
    a, b = bf16(2, 3, 2, 2, 8), bf16(2, 5, 2, 8)
    y, pullback = jax.vjp(lambda a, b: einsum(spec, a, b, dtype), a, b)
    g = bf16(*y.shape)
    da, db = pullback(g.astype(y.dtype))
    expected = np.einsum(spec, f64(a), f64(b))
    if dtype is None:
        near(y, expected)
    else:
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    near(da, np.einsum("bngts,bsnk->btngk", f64(g), f64(b)))
    near(db, np.einsum("bngts,btngk->bsnk", f64(g), f64(a)))


def test_on_a_cpu_every_product_has_bf16_operands_and_f32_sums(monkeypatch):
    """Else XLA's CPU backend would widen the operands."""
    monkeypatch.setattr(mesh, "platform", lambda: "cpu")

    def loss(x, w, k):
        y = flat_dot(x, w, (((2,), (0,)), ((), ())))
        return einsum("btd,bsd->bts", y, k).astype(jnp.float32).sum()

    jaxpr = jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(bf16(2, 3, 5), bf16(5, 4), bf16(2, 6, 4))
    products = [eqn for eqn in _equations(jaxpr.jaxpr) if eqn.primitive.name == "dot_general"]
    assert len(products) == 6
    for product in products:
        assert {v.aval.dtype for v in product.invars} == {jnp.dtype("bfloat16")}, product
        assert product.outvars[0].aval.dtype == jnp.float32, product


def _equations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", None)
            if inner is not None and hasattr(inner, "eqns"):
                yield from _equations(inner)


def test_f32_is_untouched(platform):
    x, w = jnp.ones((2, 3, 5)), jnp.ones((5, 4))
    text = str(jax.make_jaxpr(lambda x, w: flat_dot(x, w, (((2,), (0,)), ((), ()))))(x, w))
    assert "custom_vjp" not in text

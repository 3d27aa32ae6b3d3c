"""Value and gradient against f64 arithmetic, with the mesh of a CPU and without one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import mesh
from research.nn.softmax import softmax

X = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32) * 4
DIRECTION = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)


def expected():
    x, d = X.astype(np.float64), DIRECTION.astype(np.float64)
    y = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    jacobian = y[..., :, None] * np.eye(7) - y[..., :, None] * y[..., None, :]
    return y, np.einsum("...i,...ij->...j", d, jacobian)


@pytest.mark.parametrize("on_cpu", [True, False])
def test_it_is_softmax(on_cpu, monkeypatch):
    monkeypatch.setattr(mesh, "platform", lambda: "cpu" if on_cpu else None)
    y, pullback = jax.vjp(softmax, jnp.asarray(X))
    value, gradient = expected()
    np.testing.assert_allclose(y, value, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(pullback(jnp.asarray(DIRECTION))[0], gradient, rtol=1e-5, atol=1e-7)
    assert ("custom_vjp" in str(jax.make_jaxpr(lambda x: softmax(x))(X))) is on_cpu


def test_masked_scores_weigh_nothing_and_have_no_gradient():
    x = jnp.asarray([[1.0, 2.0, jnp.finfo(jnp.float32).min]])
    with jax.set_mesh(mesh.make_mesh({"data": 1}, jax.devices()[:1])):
        y, pullback = jax.vjp(softmax, x)
        gradient = pullback(jnp.ones_like(y) * jnp.arange(3.0))[0]
    np.testing.assert_allclose(y[0], [1 / (1 + np.e), np.e / (1 + np.e), 0], rtol=1e-6)
    assert gradient[0, 2] == 0 and np.isfinite(gradient).all()

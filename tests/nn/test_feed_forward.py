import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf, expit

from research.nn.feed_forward import FeedForward

ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "gelu_exact": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * expit(x),
}


@pytest.mark.parametrize("name", [*ACTIVATIONS, "swiglu"])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_the_formula(name, bias):
    x = jnp.float32(np.random.default_rng(0).normal(size=(2, 3, 4)))
    normal = jax.nn.initializers.normal(1.0)
    layer = FeedForward(6, name, bias, kernel_init=normal, out_init=normal)
    params = layer.init(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda a: a + 0.1, params)  # biases start at 0

    def dense(name, x):
        return x @ params[name]["kernel"] + (params[name]["bias"] if bias else 0)

    if name == "swiglu":
        gate = dense("gate", x)
        hidden = gate * expit(gate) * dense("up", x)
    else:
        hidden = ACTIVATIONS[name](dense("up", x))
    got = layer.apply({"params": params}, x)
    np.testing.assert_allclose(got, dense("down", hidden), atol=1e-4)


def test_dropout_acts_on_the_hidden_units():
    x = jnp.ones((1, 1, 1))
    layer = FeedForward(1000, "relu", dropout=0.25)
    params = {"up": {"kernel": np.ones((1, 1000))}, "down": {"kernel": np.eye(1000, 1) + 1}}
    y = layer.apply({"params": params}, x, train=True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_allclose(layer.apply({"params": params}, x), 1001)
    # Of 1,000 units of 1, each kept with 3/4 as 4/3: a sum of mean 1,000 and sd sqrt(1000 / 3) = 18.
    assert 900 < float(y[0, 0, 0]) < 1100 and float(y[0, 0, 0]) != 1001

import jax
import numpy as np
import pytest
from scipy.special import erf, expit

from research.nn.feed_forward import FeedForward

ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "gelu_exact": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
}


@pytest.mark.parametrize("name", ["gelu", "gelu_exact", "swiglu"])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_the_formula(name, bias):
    x = np.float32(np.random.default_rng(0).normal(size=(2, 3, 4)))
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

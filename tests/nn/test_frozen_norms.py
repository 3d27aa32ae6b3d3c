import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from research.nn import frozen_norms


class Two(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        for name in ("below", "above"):
            x = nn.BatchNorm(use_running_average=not train, momentum=0.5, epsilon=0.0, name=name)(x)
        return x


ONE = {"scale": jnp.ones(1), "bias": jnp.zeros(1)}
STATISTICS = {
    "below": {"mean": jnp.full(1, 3.0), "var": jnp.full(1, 4.0)},
    "above": {"mean": jnp.zeros(1), "var": jnp.ones(1)},
}
VARIABLES = {"params": {"below": ONE, "above": ONE}, "batch_stats": STATISTICS}
X = jnp.array([[1.0], [5.0], [9.0]])


def run(frozen):
    with frozen_norms.fixed(frozen):
        out, state = Two().apply(VARIABLES, X, train=True, mutable=["batch_stats"])
    return out[:, 0], state["batch_stats"]


def test_a_frozen_norm_uses_its_own_statistics_and_keeps_them():
    """Below: (x - 3) / 2 = -1, 1, 3, of mean 1 and variance 8/3; above normalises that by the batch's."""
    out, statistics = run("^below/")
    np.testing.assert_allclose(out, [-np.sqrt(1.5), 0, np.sqrt(1.5)], rtol=1e-6, atol=1e-6)
    assert (statistics["below"]["mean"], statistics["below"]["var"]) == (3, 4)
    np.testing.assert_allclose(statistics["above"]["mean"], 0.5)
    np.testing.assert_allclose(statistics["above"]["var"], 0.5 + 4 / 3, rtol=1e-6)


def test_both_or_none():
    np.testing.assert_allclose(run(".")[0], [-1, 1, 3])
    for frozen in ("", "^below/scale"):  # whose bias trains
        statistics = run(frozen)[1]
        np.testing.assert_allclose(statistics["below"]["mean"], 4.0)  # half of 3 and half of 5

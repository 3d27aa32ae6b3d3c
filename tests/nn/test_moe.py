import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn.feed_forward import FeedForward
from research.nn.moe import MixtureOfExperts, balance, plan, routing

X = jnp.float32(np.random.default_rng(0).normal(size=(2, 9, 8)))


def make(layer, x=X):
    """Parameters N(0, 0.5^2), biases too."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    return jax.tree.map(lambda a: jnp.float32(0.5 * rng.normal(size=a.shape)), shapes)


def one_by_one(layer, variables, x):
    """Every token through every expert, as `FeedForward`s; then the k that the router weighs highest. f[N, D]."""
    params = dict(variables["params"])
    logits = x @ params.pop("router")["kernel"]
    dense = FeedForward(layer.width, layer.activation, layer.bias)
    each = [dense.apply({"params": jax.tree.map(lambda a, e=e: a[e], params)}, x) for e in range(layer.num_experts)]
    order = jnp.argsort(-logits, axis=-1)[:, : layer.per_token]
    kept = jax.nn.softmax(jnp.take_along_axis(logits, order, -1))
    return sum(
        kept[:, i, None] * jnp.take_along_axis(jnp.stack(each, 1), order[:, i, None, None], 1)[:, 0]
        for i in range(layer.per_token)
    )


@pytest.mark.parametrize(
    "activation, bias, shape", [("gelu", True, (2, 9, 8)), ("swiglu", False, (2, 9, 8)), ("gelu", False, (3, 64, 48))]
)
def test_one_expert_is_the_dense_layer_to_the_bit(activation, bias, shape):
    x = np.float32(np.random.default_rng(2).normal(size=shape))
    layer, dense = MixtureOfExperts(1, 1, 24, activation, bias), FeedForward(24, activation, bias)
    variables = make(dense, x)
    params = {
        **jax.tree.map(lambda a: a[None], variables["params"]),
        "router": {"kernel": np.ones((shape[-1], 1), "f")},
    }
    want = jax.jit(dense.apply)(variables, x)
    got = jax.jit(layer.apply)({"params": params}, x)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("experts, k, activation", [(3, 1, "gelu"), (5, 2, "swiglu")])
def test_equals_its_experts_one_by_one_with_the_gradients(experts, k, activation):
    layer = MixtureOfExperts(experts, k, 6, activation, bias=True)
    variables = make(layer)

    def loss(apply, variables, x):
        y = apply(variables, x)
        return jnp.sum(jnp.sin(y)), y.reshape(-1, 8)

    def plain(variables, x):
        return one_by_one(layer, variables, x.reshape(-1, 8))

    grad = jax.jit(jax.grad(loss, argnums=(1, 2), has_aux=True), static_argnums=0)
    got_grads, got = grad(layer.apply, variables, X)
    want_grads, want = grad(plain, variables, X)
    np.testing.assert_allclose(got, want, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), got_grads, want_grads)


def test_a_token_does_not_hang_on_the_others():
    layer = MixtureOfExperts(4, 2, 6)
    variables = make(layer)
    apply = jax.jit(layer.apply)
    alone = apply(variables, X[:1, 3:4])
    np.testing.assert_allclose(apply(variables, X)[0, 3], alone[0, 0], atol=1e-6)


def test_no_token_is_dropped_when_all_want_the_same_experts():
    layer = MixtureOfExperts(4, 2, 6)
    variables = make(layer)
    x = jnp.abs(X)
    variables["params"]["router"]["kernel"] = jnp.float32([[0, 3, 2, 0]] * 8)  # 1, then 2, for all
    got, seen = jax.jit(lambda v, x: layer.apply(v, x, mutable=["routing"]))(variables, x)
    np.testing.assert_allclose(got.reshape(-1, 8), one_by_one(layer, variables, x.reshape(-1, 8)), atol=1e-5)
    np.testing.assert_allclose(seen["routing"]["router_load"][0], [0, 0.5, 0.5, 0])


@pytest.mark.parametrize("n, experts", [(1, 1), (1, 4), (7, 2), (18, 4), (40, 16)])
def test_the_plan_gives_every_copy_a_row_of_its_experts_blocks(n, experts):
    rng = np.random.default_rng(n)
    for chosen in (rng.integers(0, experts, (n, 1)), np.full((n, 1), experts - 1), np.zeros((n, 1), int)):
        where = plan(jnp.asarray(chosen), experts)
        slot, owner = np.asarray(where.slot), np.asarray(where.owner)
        assert len(set(slot)) == n and slot.min() >= 0 and slot.max() < len(owner) * where.rows
        np.testing.assert_array_equal(owner[slot // where.rows], chosen[:, 0])
        assert len(owner) * where.rows <= 1.25 * n + experts * max(1, where.rows)


def test_balance_by_hand():
    # Three tokens, two choices each: experts 0 1, 0 2, 0 1. Their shares are 3/6, 2/6, 1/6 and 0.
    p = np.array([[0.5, 0.3, 0.1, 0.1], [0.4, 0.1, 0.4, 0.1], [0.6, 0.2, 0.1, 0.1]])
    load = np.array([3, 2, 1, 0]) / 6
    mean = [0.5, 0.2, 0.2, 0.1]
    want = 4 * (0.5 * mean[0] + 2 / 6 * mean[1] + 1 / 6 * mean[2])
    assert float(balance(jnp.asarray(load), jnp.asarray(p))) == pytest.approx(want, rel=1e-6)
    even = jnp.full((5, 4), 0.25)
    assert float(balance(even[0], even)) == pytest.approx(1)
    assert float(balance(jnp.eye(4)[0], jnp.eye(4)[:1])) == pytest.approx(4)


def test_what_a_layer_reports():
    layer = MixtureOfExperts(4, 2, 6)
    variables = make(layer)
    _, seen = jax.jit(lambda v, x: layer.apply(v, x, mutable=["routing"]))(variables, X)
    logits = np.float64(X.reshape(-1, 8) @ variables["params"]["router"]["kernel"])
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    counts = np.bincount(np.argsort(-logits, -1)[:, :2].ravel(), minlength=4)
    load = counts / counts.sum()
    mean, entropy = routing(seen)
    assert float(mean) == pytest.approx(4 * load @ p.mean(0), rel=1e-5)
    assert float(entropy) == pytest.approx(-sum(q * math.log(q) for q in load if q) / math.log(4), rel=1e-5)
    assert routing({}) is None


def test_layers_are_averaged():
    one = {"router_load": (jnp.array([0.5, 0.5]),), "router_balance": (jnp.float32(1.0),)}
    two = {"router_load": (jnp.array([1.0, 0.0]),), "router_balance": (jnp.float32(2.0),)}
    mean, entropy = routing({"h_0": {"feed_forward": one}, "h_1": {"feed_forward": two}, "other": jnp.ones(3)})
    assert (float(mean), float(entropy)) == (1.5, 0.5)
    stacked = jax.tree.map(lambda a, b: jnp.stack([a, b]), one, two)  # as scanned layers have it
    assert [float(x) for x in routing({"h": {"feed_forward": stacked}})] == [1.5, 0.5]

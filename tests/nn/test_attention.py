import jax
import jax.numpy as jnp
import numpy as np

from research.nn.attention import Attention, CrossAttention, angles, attend, rotate


def test_attend_equals_a_loop():
    rng = np.random.default_rng(0)
    B, T, S, N, G, K = 2, 3, 5, 2, 3, 4
    q, k, v = (rng.normal(size=s) for s in ((B, T, N, G, K), (B, S, N, K), (B, S, N, K)))
    mask = rng.random((T, S)) < 0.6
    mask[:, 0] = True
    want = np.zeros_like(q)
    for b, t, n, g in np.ndindex(B, T, N, G):
        seen = np.flatnonzero(mask[t])
        scores = np.exp([q[b, t, n, g] @ k[b, s, n] / 2 for s in seen])  # sqrt(K) = 2
        want[b, t, n, g] = scores / scores.sum() @ v[b, seen, n]
    got = attend(*(jnp.float32(x) for x in (q, k, v)), jnp.asarray(mask))
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_row_that_may_look_nowhere_is_finite():
    q, v = jnp.ones((1, 1, 1, 1, 2)), jnp.array([[[[1.0, 0]], [[3.0, 4]]]])
    y = attend(q, v, v, jnp.zeros((1, 2), bool))
    np.testing.assert_allclose(y.ravel(), [2, 2])


def test_angles_by_hand():
    # K = 4, base 100: frequencies 1 and 100^(-2/4) = 0.1 radians a position.
    np.testing.assert_allclose(angles(jnp.arange(3), 4, 100.0), [[0, 0], [1, 0.1], [2, 0.2]])


def test_rotation_keeps_lengths_and_sees_distances_only():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 2, 8))

    def dot(m, n):
        rotated = (rotate(x, angles(jnp.array([p]), 8)) for x, p in ((q, m), (k, n)))
        return jnp.sum(next(rotated) * next(rotated))

    np.testing.assert_allclose(dot(3, 1), dot(103, 101), rtol=1e-4)
    assert abs(dot(3, 1) - dot(4, 1)) > 1e-2
    turned = rotate(q, angles(jnp.array([5]), 8))
    np.testing.assert_allclose(jnp.linalg.norm(turned), jnp.linalg.norm(q), rtol=1e-6)
    # A quarter turn takes (x[i], x[i + K/2]) = (1, 0) to (0, 1).
    quarter = rotate(jnp.array([[[1.0, 0.0]]]), jnp.array([[np.pi / 2]]))
    np.testing.assert_allclose(quarter.ravel(), [0, 1], atol=1e-7)


def test_attention_dropout_acts_on_the_weights():
    x = jax.random.normal(jax.random.key(0), (1, 6, 8))
    layer = Attention(num_heads=2, dropout=0.5)
    variables = jax.jit(layer.init)(jax.random.key(1), x)

    @jax.jit
    @jax.vmap
    def dropped(key):
        return layer.apply(variables, x, train=True, rngs={"dropout": key})[0]

    y, cache = layer.apply(variables, x)
    many = dropped(jax.random.split(jax.random.key(3), 4000))
    assert cache is None and np.abs(many[0] - y).max() > 1e-4
    np.testing.assert_allclose(many.mean(0), y, atol=0.1 * np.abs(y).max())  # unbiased


def test_cross_attention_is_self_attention_of_its_own_memory():
    """The same matrices, columns by head, attending to the sequence itself."""
    x = jax.random.normal(jax.random.key(0), (2, 5, 8))
    mask = jnp.arange(5) < jnp.array([5, 3])[:, None, None, None, None]
    normal = jax.nn.initializers.normal(1.0)
    alone = Attention(num_heads=2, bias=True, kernel_init=normal, out_init=normal)
    params = jax.tree.map(lambda a: a + 0.1, alone.init(jax.random.key(1), x)["params"])

    def columns(a, *parts):
        return a.reshape(*a.shape[:-1], 2, 3, 4)[..., parts, :].reshape(*a.shape[:-1], -1)

    across = CrossAttention(num_heads=2, width=8, bias=True)
    q, kv = (jax.tree.map(lambda a: columns(a, *parts), params["qkv"]) for parts in ((0,), (1, 2)))  # noqa: B023
    both = {"params": {"q": q, "kv": kv, "out": params["out"]}}
    memory = across.apply(both, x, method="project")
    got, seen = across.apply(both, x, memory, mask, mutable="intermediates")
    np.testing.assert_allclose(got, alone.apply({"params": params}, x, mask)[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.tree.leaves(seen)[0].sum(-1), 1, rtol=1e-6)


def test_the_output_may_have_a_bias_of_its_own():
    params = jax.eval_shape(Attention(2, out_bias=True).init, jax.random.key(0), jnp.ones((1, 3, 8)))["params"]
    assert params["out"].keys() == {"kernel", "bias"} and params["qkv"].keys() == {"kernel"}

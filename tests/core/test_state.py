import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from research.core import state as state_lib
from research.core.mesh import make_mesh
from research.core.state import TRAINING

RULES = (("kernel$", "fsdp"), ("bias$", ("model",)))
TX = optax.adamw(1e-3)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=False)(nn.Dense(64)(x))
        return nn.Dense(32)(x)


def init(key):
    return Net().init(key, jnp.zeros((1, 48)))


def create(mesh, rules=(), ema=True):
    return state_lib.create(init, TX, 3, make_mesh(mesh), rules, ema)


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    data = lambda x: jax.random.key_data(x) if x.dtype == jax.random.key(0).dtype else x  # noqa: E731
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(data(x), data(y))


@pytest.mark.parametrize("mesh", [{"data": 8, "model": 1}, {"data": 4, "model": 2}])
def test_a_state_born_sharded_is_the_unsharded_one(mesh):
    state = create(mesh, RULES)
    kernel = state.params["Dense_0"]["kernel"]
    assert kernel.sharding.spec == P(None, "data")
    assert kernel.addressable_shards[0].data.shape == (48, 64 // mesh["data"])
    assert_equal(state, create({"data": 1, "model": 1}))


def test_the_seed_decides_everything_and_the_run_key_is_not_the_initial_one():
    first, second = (state_lib.create(init, TX, s, make_mesh({"data": 1})) for s in (3, 4))
    assert (first.params["Dense_0"]["kernel"] != second.params["Dense_0"]["kernel"]).any()
    assert first.key != second.key
    alone = init(jax.random.split(jax.random.key(3))[0])["params"]
    assert_equal(first.params, jax.jit(lambda: alone)())
    assert (first.step, first.ema) == (0, {})


def test_abstract_is_the_same_tree_of_shapes():
    mesh = make_mesh({"data": 4, "model": 2})
    shapes, shards = state_lib.abstract(init, TX, mesh, RULES, True)
    state = create({"data": 4, "model": 2}, RULES)
    assert jax.tree.structure(shapes) == jax.tree.structure(state)
    for a, b, s in zip(*map(jax.tree.leaves, (shapes, state, shards)), strict=True):
        assert isinstance(a, jax.ShapeDtypeStruct)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert a.sharding == b.sharding == s


def test_variables_are_averaged_weights_where_there_are_any():
    state = create({"data": 1})
    averaged = jax.tree.map(lambda p: p + 1, state.params)
    assert state.replace(ema=averaged).variables["params"] is averaged
    assert state.replace(ema={}).variables["params"] is state.params
    assert set(state.variables) == {"params", "batch_stats"}
    with_play = state.replace(model_state={**state.model_state, TRAINING: {"replay": jnp.zeros(3)}})
    assert set(with_play.variables) == {"params", "batch_stats"}
    for a, b in zip(jax.tree.leaves(state.ema), jax.tree.leaves(state.params), strict=True):
        assert a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer()  # each may be donated


def test_an_optimiser_a_group():
    def two(key):
        return {"params": {"g": {"w": jnp.ones(3)}, "d": {"w": jnp.ones(5)}}}

    tx = {"g": optax.adam(1e-3), "d": optax.sgd(1e-3)}
    state = state_lib.create(two, tx, 0, make_mesh({"data": 1}))
    assert state.opt["g"][0].mu["w"].shape == (3,)
    assert not jax.tree.leaves(state.opt["d"])


def test_count():
    dense = (48 * 64 + 64) + (64 * 32 + 32)
    shapes, _ = state_lib.abstract(init, TX, make_mesh({"data": 1}))
    assert state_lib.count(shapes.params) == dense + 2 * 64
    assert state_lib.count(shapes.opt) == 2 * (dense + 2 * 64) + 1  # two moments and a counter
    assert state_lib.count(shapes.model_state) == 2 * 64

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from research.core import mesh as mesh_lib
from research.core.mesh import host_rows, make_mesh, resolve, shard_activations, shardings
from research.util.errors import UserError

PARAMS = {
    "h": {"kernel": (4, 24, 48), "bias": (48,)},  # four scanned layers
    "head": {"kernel": (48, 10), "bias": (10,)},
}


def shapes(tree):
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, jnp.float32), tree, is_leaf=is_shape)


def specs(tree, rules, **axes):
    return jax.tree.map(lambda s: s.spec, shardings(shapes(tree), rules, make_mesh(axes)))


@pytest.mark.parametrize(
    ("axes", "sizes"),
    [
        ({"data": -1, "model": 1}, (8, 1)),
        ({"data": -1, "model": 2}, (4, 2)),
        ({"data": 2, "model": -1}, (2, 4)),
        ({"data": 8}, (8,)),
        ({"data": 1, "model": 3}, (1, 3)),  # the first three devices
    ],
)
def test_mesh_sizes(axes, sizes):
    mesh = make_mesh(axes)
    assert (mesh.axis_names, mesh.devices.shape) == (tuple(axes), sizes)
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert len(set(mesh.devices.flat)) == mesh.size


@pytest.mark.parametrize(
    "axes",
    [
        {"data": 16},
        {"data": -1, "model": 3},
        {"data": -1, "model": 16},
        {"data": -1, "model": -1},
        {"data": 0},
        {"data": -2},
    ],
)
def test_a_wrong_mesh_is_a_clear_error(axes):
    with pytest.raises(UserError, match=r"^mesh = \{'data'"):
        make_mesh(axes)


def test_a_rule_is_aligned_to_the_last_dimensions_and_the_first_match_wins():
    rules = (
        ("h/kernel$", (None, "model")),
        ("kernel$", ("data", None)),
        ("head/bias$", ("model",)),
    )
    assert specs(PARAMS, rules, data=4, model=2) == {
        "h": {"kernel": P(None, None, "model"), "bias": P()},
        "head": {"kernel": P("data", None), "bias": P("model")},
    }


def test_fsdp_splits_the_largest_dimension_that_divides():
    tree = {
        "a": (24, 48),  # the last
        "b": (64, 17, 4),  # the first
        "c": (7, 1001, 16),  # the largest does not divide
        "d": (33, 35),  # none does
        "e": (8, 16),  # under FSDP_MIN_SIZE
        "f": (),
    }
    want = {
        "a": P(None, "data"),
        "b": P("data", None, None),
        "c": P(None, None, "data"),
        "d": P(),
        "e": P(),
        "f": P(),
    }
    assert specs(tree, ((".", "fsdp"),), data=8) == want


@pytest.mark.parametrize(("tx", "moments"), [(optax.adamw(1e-3), 2), (optax.trace(0.9), 1)])
def test_moments_lie_as_their_parameters_do(tx, moments):
    params = shapes(PARAMS)
    rules = (("h/kernel$", (None, "model")), ("head/kernel$", "fsdp"))
    tree = {"params": params, "opt": jax.eval_shape(tx.init, params), "ema": params}
    shards = shardings(tree, rules, make_mesh({"data": 4, "model": 2}))
    assert shards["ema"] == shards["params"]
    assert shards["params"]["head"]["kernel"].spec == P()  # 480 numbers
    split = [s.spec for s in jax.tree.leaves(shards["opt"]) if not s.is_fully_replicated]
    assert split == [P(None, None, "model")] * moments


def test_factored_moments_are_whole_where_a_rule_cannot_split_them():
    kernel = {"h": {"kernel": (2, 128, 256)}}  # two scanned layers
    params = shapes(kernel)
    tree = {"params": params, "opt": jax.eval_shape(optax.adafactor(1e-3).init, params)}
    shards = shardings(tree, (("kernel$", ("data", None)),), make_mesh({"data": 8}))
    assert shards["params"]["h"]["kernel"].spec == P(None, "data", None)
    assert shards["opt"][0].v_row["h"]["kernel"].spec == P()  # [2, 128]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ((("kernel$", "fsdp"), ("kernal$", "fsdp")), "'kernal\\$' matches no parameter"),
        ((("kernel$", "fsdp"), ("head/kernel$", (None, "data"))), "'head/kernel\\$' matches no"),
        ((("head/kernel$", (None, "model")),), r"head/kernel \(48, 10\) .* 10 by model = 4"),
        ((("head/bias$", ("modle",)),), "head/bias names the mesh axis 'modle'; .* data, model"),
    ],
)
def test_a_wrong_rule_is_named(rules, words):
    with pytest.raises(UserError, match=words):
        specs(PARAMS, rules, data=2, model=4)


def test_resolve():
    named = {"fsdp": (("kernel$", "fsdp"),), "tensor": ()}
    own = (("kernel$", (None, "model")),)
    assert resolve("", named) == ()
    assert resolve("fsdp", named) == named["fsdp"]
    assert resolve(own, named) == resolve(str(own), named) == own
    with pytest.raises(UserError, match="'fdsp': no such set; did you mean 'fsdp'"):
        resolve("fdsp", named)


@pytest.mark.parametrize("rules", ["((", "(('kernel$', 'fsdp'))", "(('(', 'fsdp'),)", (("a", "b"),)])
def test_malformed_rules_are_a_clear_error(rules):
    with pytest.raises(UserError, match=r"wanted \(\(regex, axes\), ...\)"):
        resolve(rules, {})


def test_each_host_reads_the_rows_of_its_devices(monkeypatch):
    mesh = make_mesh({"data": 4, "model": 2})
    assert host_rows(mesh, 12) == slice(0, 12)
    with pytest.raises(UserError, match="batch_size = 6 does not divide by the data axis of 4"):
        host_rows(mesh, 6)

    def second_of_two_hosts(mesh):
        rows = NamedSharding(mesh, P("data")).devices_indices_map((12,))
        held = {d: r for d, r in rows.items() if d.id >= 4}
        return SimpleNamespace(addressable_devices_indices_map=lambda shape: held)

    monkeypatch.setattr(mesh_lib, "batch_sharding", second_of_two_hosts)
    assert host_rows(mesh, 12) == slice(6, 12)


def test_shard_activations_splits_rows_under_a_mesh_and_is_the_identity_without():
    x = jnp.arange(16.0).reshape(8, 2)
    assert shard_activations(x) is x
    with jax.set_mesh(make_mesh({"data": 4, "model": 2})):
        sharded = jax.jit(lambda x: shard_activations(x) * 1)(x)
    assert sharded.sharding.spec[0] == "data"
    assert (sharded == x).all()


def test_the_mesh_says_the_platform():
    assert mesh_lib.platform() is None
    with jax.set_mesh(make_mesh({"data": 1}, jax.devices()[:1])):
        assert mesh_lib.platform() == "cpu"
        assert jax.jit(lambda x: x * (mesh_lib.platform() == "cpu"))(1.0) == 1.0


def test_the_mesh_of_arrays_is_set_for_what_is_computed_from_them():
    grid = make_mesh({"data": 2}, jax.devices()[:2])
    tree = {"step": 3, "x": jax.device_put(jnp.ones(4), mesh_lib.batch_sharding(grid))}
    with jax.set_mesh(mesh_lib.of(tree)):
        assert mesh_lib.platform() == "cpu"
        assert dict(jax.sharding.get_abstract_mesh().shape) == {"data": 2}
    assert mesh_lib.platform() is None

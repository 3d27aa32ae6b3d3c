"""Mesh and sharding rules -> NamedSharding. The only module that names mesh axes.

A mesh is `{"data": -1, "model": 1}`: axis sizes, at most one of them -1 (all remaining devices). A rule is `(regex, axes)`:
parameters whose path matches take those axes, aligned to their last dimensions; the first match wins and what no rule
matches is replicated. `axes` may be "fsdp": the largest dimension that the data axis divides is split over it.
Optimiser moments and EMA weights have their parameter's path inside theirs, so one rule serves all three.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from research.util.errors import UserError, nearest

FSDP_MIN_SIZE = 2**10  # splitting anything smaller costs more messages than it saves bytes


def make_mesh(axes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Devices (all of them by default) -> Mesh with the given axis sizes, as Linen needs it: AxisType.Auto."""
    devices = jax.devices() if devices is None else devices
    names, sizes = tuple(axes), list(axes.values())
    given = int(np.prod([s for s in sizes if s != -1]))
    if sizes.count(-1) > 1 or any(s < 1 and s != -1 for s in sizes):
        raise UserError(f"mesh = {dict(axes)}: sizes are positive, and at most one of them is -1 (the rest)")
    if -1 in sizes and len(devices) % given == 0:
        sizes[sizes.index(-1)] = len(devices) // given
    if -1 in sizes or (size := int(np.prod(sizes))) > len(devices):
        raise UserError(f"mesh = {dict(axes)} does not fit {len(devices)} device(s); set --config.mesh.{names[0]}=-1")
    auto = (jax.sharding.AxisType.Auto,) * len(names)
    return jax.make_mesh(tuple(sizes), names, auto, devices=devices[:size])


def path_name(path: tuple) -> str:
    """A tree path as words: `params/h_0/attention/qkv/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def shardings(tree: Any, rules: Sequence, mesh: Mesh) -> Any:
    """A tree of arrays or ShapeDtypeStructs -> the same tree of NamedShardings. A rule that matches nothing is an error."""
    used = set()

    def one(path, leaf):
        for pattern, axes in rules:
            if not re.search(pattern, path_name(path)):
                continue
            if axes != "fsdp" and leaf.ndim < len(axes):
                continue  # a factored moment or a bias under a matrix's rule
            used.add(pattern)
            spec = _fsdp(leaf, mesh) if axes == "fsdp" else (None,) * (leaf.ndim - len(axes)) + tuple(axes)
            return NamedSharding(mesh, PartitionSpec(*_fitting(path_name(path), leaf.shape, spec, mesh)))
        return NamedSharding(mesh, PartitionSpec())

    out = jax.tree_util.tree_map_with_path(one, tree)
    if dead := [pattern for pattern, _ in rules if pattern not in used]:
        raise UserError(f"rules: {dead[0]!r} matches no parameter; see the paths with `almanac show`")
    return out


def resolve(rules: str | Sequence, named: Mapping[str, Sequence]) -> Sequence:
    """The config's `rules`: "" for none, a name of the model's own sets, or the rules themselves (as text, too)."""
    if not isinstance(rules, str) or rules.startswith("("):
        return _own(rules)
    if rules and rules not in named:
        raise UserError(f"rules = {rules!r}: no such set{nearest(rules, named)}")
    return named[rules] if rules else ()


def _own(rules: str | Sequence) -> Sequence:
    try:
        pairs: Any = ast.literal_eval(rules) if isinstance(rules, str) else rules
        for pattern, axes in pairs:
            re.compile(pattern)
            if axes != "fsdp" and not isinstance(axes, (tuple, list)):
                raise ValueError(f"{axes!r} is neither axes nor 'fsdp'")
        return pairs
    except (re.error, SyntaxError, TypeError, ValueError) as e:
        raise UserError(f"rules = {rules!r}: wanted ((regex, axes), ...): {e}") from None


def _fsdp(leaf, mesh: Mesh) -> tuple:
    fits = [d for d in range(leaf.ndim) if leaf.shape[d] % mesh.shape["data"] == 0]
    if not fits or leaf.size < FSDP_MIN_SIZE:
        return ()
    largest = max(fits, key=lambda d: leaf.shape[d])
    return tuple("data" if d == largest else None for d in range(leaf.ndim))


def _fitting(name: str, shape: tuple, spec: tuple, mesh: Mesh) -> tuple:
    for size, axis in zip(shape, spec, strict=False):
        if axis is not None and axis not in mesh.shape:
            raise UserError(f"rules: {name} names the mesh axis {axis!r}; the mesh has {', '.join(mesh.shape)}")
        if axis is not None and size % mesh.shape[axis]:
            if name.startswith("opt/"):
                return ()  # a factored moment; one of its parameter's shape fails by the parameter
            raise UserError(f"rules: {name} {shape} cannot be split: {size} by {axis} = {mesh.shape[axis]} devices")
    return spec


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, stacked: bool = False) -> NamedSharding:
    """Batches are split over the data axis by rows: their first axis, their second where several are stacked."""
    return NamedSharding(mesh, PartitionSpec(None, "data") if stacked else PartitionSpec("data"))


def host_rows(mesh: Mesh, batch_size: int, key: str = "data.batch_size") -> slice:
    """The rows of a global batch that this host's devices hold, as one slice."""
    if batch_size % mesh.shape["data"]:
        raise UserError(
            f"{key} = {batch_size} does not divide by the data axis of {mesh.shape['data']} device(s); "
            f"change {key} or mesh.data"
        )
    held = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    starts, stops = zip(*(rows[0].indices(batch_size)[:2] for rows in held), strict=True)
    return slice(min(starts), max(stops))


def to_device(
    batch: Mapping[str, np.ndarray], mesh: Mesh, batch_size: int, stacked: bool = False
) -> dict[str, jax.Array]:
    """This host's rows [b, ...] (stacked: [K, b, ...]) -> global arrays of `batch_size` rows, split over the data axis."""
    sharding, axis = batch_sharding(mesh, stacked), int(stacked)
    shapes = {k: (*v.shape[:axis], batch_size, *v.shape[axis + 1 :]) for k, v in batch.items()}
    return {k: jax.make_array_from_process_local_data(sharding, v, shapes[k]) for k, v in batch.items()}


def platform() -> str | None:
    """The platform of the program being traced, "cpu", "gpu" or "tpu", from the mesh that `jax.set_mesh` set.

    None without a mesh, as for an exported function, which may run on any. Known while tracing, so that the form chosen for
    one platform leaves the programs of the others as they are; `jax.lax.platform_dependent` would keep both branches.
    """
    device = abstract_device()
    return device.platform if device else None


def abstract_device() -> Any:
    """The kind of device of the mesh that `jax.set_mesh` set (`.platform`, `.device_kind`); None without a mesh."""
    return getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)


def of(tree: Any) -> Mesh:
    """The mesh that a tree's arrays lie on. With `jax.set_mesh(of(tree))` a program compiles as it does in a `Run`."""
    shardings = (leaf.sharding for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array))
    return next(s.mesh for s in shardings if isinstance(s, NamedSharding))


def shard_activations(x: jax.Array, other_axes: Any = None) -> jax.Array:
    """Constrains activations [B, ...] to be sharded over the data axis by row, so that no device holds the whole batch.

    The other axes are replicated (`other_axes` None), or `PartitionSpec.UNCONSTRAINED`. Identity without a mesh.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or "data" not in mesh.shape:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec("data", *(other_axes,) * (x.ndim - 1)))


def data_parts(rows: int) -> int:
    """Parts of a batch's rows that lie on different devices of the data axis; 1 without a mesh, or if rows do not divide."""
    size = jax.sharding.get_abstract_mesh().shape.get("data", 1)
    return size if rows % size == 0 else 1

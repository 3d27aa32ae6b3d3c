"""Prints an experiment for `almanac show`."""

import textwrap
from typing import Any

import jax

from research.core import config, flops, mesh, state
from research.run import reopen
from research.util.escape import visible


def show(cfg: Any) -> None:
    """Prints the config, the parameters, the batch and a step's FLOPs. Builds the experiment, but allocates no arrays."""
    e = reopen.build(cfg.name, cfg)
    devices = mesh.make_mesh(e.cfg.mesh)
    with jax.set_mesh(devices):
        shapes, _ = state.abstract(e.init_fn, e.tx, devices, e.rules, bool(e.ema))
        cost = flops.count(e.train_step.trace(shapes, e.train.spec))
    print(visible(cfg.name))
    _config(config.flatten(cfg), config.flatten(e.cfg.to_dict()), _defaults(cfg))
    print("\nparameters")
    _table(shapes.params)
    if shapes.model_state:
        print("\nother variables")
        _table(shapes.model_state)
    print(f"\n  {state.count(shapes.params):,} parameters, {_bytes(shapes):,.1f} MB of state\n\nbatch")
    print("\n".join(f"  {k:<10}  {s.dtype} {list(s.shape)}" for k, s in e.train.spec.items()))
    epoch = e.train.epoch / e.train.batch_size
    print(f"\n  {e.train.epoch:,} examples an epoch: {epoch:,.1f} steps; {e.cfg.num_steps:,} steps in all")
    print(f"  {cost / 1e9:,.3f} GFLOP a step; {cost * e.cfg.num_steps:.1e} FLOP in all")


def _defaults(cfg: Any) -> dict[str, Any]:
    """{key: default} of the config's family, and of its own model."""
    name = config.flatten(config.defaults(config.family(cfg.name))).get("model.name")
    return config.flatten(config.defaults_of(cfg)) | {"model.name": name}


def _config(cfg: dict[str, Any], resolved: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Prints the recipe (keys that differ from the family's defaults), then the other keys, then the keys without a value."""
    absent = object()
    recipe = [key for key in cfg if key != "name" and cfg[key] != defaults.get(key, absent)]
    unset = [key for key in cfg if cfg[key] is None and key not in recipe]
    unchanged = [key for key in cfg if key not in {*recipe, *unset, "name"}]
    width = max(map(len, cfg))
    for title, keys in (("recipe (durations in steps)", recipe), ("defaults", unchanged)):
        print(f"\n{title}")
        print("\n".join(f"  {visible(key):<{width}}  {visible(repr(resolved[key]))}" for key in keys))
    if unset:
        print("\nnot set")
        print(textwrap.fill(visible(", ".join(unset)), 100, initial_indent="  ", subsequent_indent="  "))


def _table(tree) -> None:
    rows = [
        (mesh.path_name(p), f"{x.dtype} {list(x.shape)}", str(x.sharding.spec).replace("PartitionSpec", ""))
        for p, x in jax.tree_util.tree_leaves_with_path(tree)
    ]
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    print("\n".join(f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows))


def _bytes(shapes) -> float:
    leaves = [x for x in jax.tree.leaves(shapes) if not jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return sum(x.size * x.dtype.itemsize for x in leaves) / 1e6

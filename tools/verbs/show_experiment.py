"""Prints what an experiment builds, for `almanac show`."""

from typing import Any

import jax

from research.core import config, flops, mesh, state
from research.run import reopen
from research.util.escape import visible


def show(cfg: Any) -> None:
    """Prints the parameters, the batch, durations and a step's FLOPs. Builds the experiment, but allocates no arrays."""
    e = reopen.build(cfg.name, cfg)
    devices = mesh.make_mesh(e.cfg.mesh)
    with jax.set_mesh(devices):
        shapes, _ = state.abstract(e.init_fn, e.tx, devices, e.rules, bool(e.ema))
        cost = flops.count(e.train_step.trace(shapes, e.train.spec))
    print("\nparameters")
    _table(shapes.params)
    if shapes.model_state:
        print("\nother variables")
        _table(shapes.model_state)
    print(f"\n  {state.count(shapes.params):,} parameters, {_bytes(shapes):,.1f} MB of state\n\nbatch")
    print("\n".join(f"  {k:<10}  {s.dtype} {list(s.shape)}" for k, s in e.train.spec.items()))
    epoch = e.train.epoch / e.train.batch_size
    print(f"\n  {e.train.epoch:,} examples an epoch: {epoch:,.1f} steps; {e.cfg.num_steps:,} steps in all")
    _durations(config.flatten(cfg), config.flatten(e.cfg.to_dict()))
    print(f"\n  {cost / 1e9:,.3f} GFLOP a step; {cost * e.cfg.num_steps:.1e} FLOP in all")


def _durations(written: dict[str, Any], resolved: dict[str, Any]) -> None:
    """Prints the durations that are written in another unit, in steps."""
    rows = [(key, str(resolved[key]), visible(str(written[key]))) for key in written if written[key] != resolved[key]]
    if rows:
        print("\ndurations, in steps and as written")
        _columns(rows)


def _table(tree) -> None:
    rows = [
        (mesh.path_name(p), f"{x.dtype} {list(x.shape)}", str(x.sharding.spec).replace("PartitionSpec", ""))
        for p, x in jax.tree_util.tree_leaves_with_path(tree)
    ]
    _columns(rows)


def _columns(rows: list[tuple[str, str, str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    print("\n".join(f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows))


def _bytes(shapes) -> float:
    leaves = [x for x in jax.tree.leaves(shapes) if not jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return sum(x.size * x.dtype.itemsize for x in leaves) / 1e6

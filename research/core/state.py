"""TrainState: everything that a step changes, created sharded."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from research.core import low_rank
from research.core import mesh as mesh_lib

# The collection of `model_state` that training alone needs: environments, a replay buffer, a target network.
TRAINING = "training"
Optimizers: TypeAlias = optax.GradientTransformation | Mapping[str, optax.GradientTransformation]


class TrainState(flax.struct.PyTreeNode):
    """step i32[] · params · opt (Optax) · model_state mutable collections · ema of params or {} · key (typed) · skipped i32[].

    `step` counts steps done, `skipped` those whose update was not finite and not made.
    """

    step: jax.Array
    params: Any
    opt: Any
    model_state: Any
    ema: Any
    key: jax.Array
    skipped: jax.Array

    @property
    def variables(self) -> dict:
        """What `predict` and evaluation use: averaged weights where there are any, merged with frozen ones if these are adapters,
        and the mutable collections but TRAINING."""
        used = {name: collection for name, collection in self.model_state.items() if name != TRAINING}
        params, frozen = self.ema or self.params, used.pop(low_rank.FROZEN, None)
        return {"params": low_rank.merge(frozen, params) if frozen else params, **used}


def create(
    init: Callable[[jax.Array], Mapping], tx: Optimizers, seed: int, mesh: Mesh, rules: Sequence = (), ema: bool = False, *,
    target: TrainState | None = None, meanwhile: Callable[[], Any] = lambda: None,
) -> TrainState:  # fmt: skip
    """`init(key) -> {"params": ..., **model_state}` and an optimiser (or one a group of params) -> a state born sharded.

    `target` is the result of `abstract` for the same arguments, if it is there. `meanwhile()` runs while a thread compiles.
    """
    target = target or abstract(init, tx, mesh, rules, ema)[0]
    shards = jax.tree.map(lambda x: x.sharding, target)
    # As words on the host: a key made here would be on one host's device, where there may be several.
    words = np.asarray(jax.random.key_data(jax.random.key(seed)))
    make = jax.jit(lambda words: _fresh(init, tx, ema, jax.random.wrap_key_data(words)), out_shardings=shards)
    with ThreadPoolExecutor(1) as aside:
        program = aside.submit(make.lower(words).compile)
        meanwhile()
    return program.result()(words)


def abstract(
    init: Callable, tx: Optimizers, mesh: Mesh, rules: Sequence = (), ema: bool = False
) -> tuple[TrainState, TrainState]:
    """The state's shapes (with shardings) and its shardings; nothing is computed."""
    # The key is made inside, so that nothing runs: the mesh may be of devices that are not here.
    shapes = jax.eval_shape(lambda: _fresh(init, tx, ema, jax.random.key(0)))
    shards = mesh_lib.shardings(shapes, rules, mesh)
    with_shards = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), shapes, shards)
    return with_shards, shards


def _fresh(init: Callable, tx: Optimizers, ema: bool, key: jax.Array) -> TrainState:
    init_key, run_key = jax.random.split(key)
    variables = dict(init(init_key))
    params = variables.pop("params")
    opt = {k: t.init(params[k]) for k, t in tx.items()} if isinstance(tx, Mapping) else tx.init(params)
    # A copy, not an alias: donated buffers may appear only once.
    averaged = jax.tree.map(jnp.copy, params) if ema else {}
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, params, opt, variables, averaged, run_key, jnp.copy(zero))


def count(params: Any) -> int:
    """Number of parameters of a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))

"""loss -> jitted, donated step: accumulation, clipping, mixed precision, EMA, mutable collections, named randomness.

A loss is `loss(params, model_state, batch, key) -> (terms, (metrics, model_state))`: terms `{name: (sum, weight, coefficient)}`,
whose objective is the sum of coefficient * sum / weight, and metrics `{name: (sum, weight)}`, among them "loss". Keys are
folded with the step, so step k is the same computation whenever it is run.
"""

import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.ad_checkpoint import checkpoint_name

from research.core import mesh as mesh_lib
from research.core.metrics import Terms, check, check_terms, objective
from research.core.state import TrainState
from research.util.errors import UserError, nearest

POLICIES = ("stop", "skip", "rollback")  # for an update that is not finite
Loss = Callable[[Any, Any, Mapping, jax.Array], tuple[Terms, tuple[dict, Any]]]


def make_rngs(key: jax.Array, *names: str) -> dict[str, jax.Array]:
    """Named random streams from one key: adding a stream never changes another."""
    return {name: jax.random.fold_in(key, zlib.crc32(name.encode())) for name in names}


def cast(tree: Any, dtype: str) -> Any:
    """Floating leaves in the compute dtype. The whole dtype policy: parameters f32, compute in `dtype`, losses in f32."""
    if dtype not in ("float32", "bfloat16"):
        raise UserError(f"dtype = {dtype!r}: the compute dtype is 'float32' or 'bfloat16'")
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def gradients(
    loss: Loss, params: Any, model_state: Any, batch: Mapping, key: jax.Array, weights: Mapping | None = None
) -> tuple[Any, dict, Any]:
    """-> gradients of the objective, metrics, model_state. Other gradient estimators (per-example clipping, say) replace it.

    `weights`: of the terms over a whole batch of which `batch` is a microbatch (see `metrics.objective`). What replaces it may
    return any tree: those of microbatches are summed, and `combine` makes the gradients of the sum.
    """

    def scalar(params):
        terms, aux = loss(params, model_state, batch, key)
        return objective(terms, weights), aux

    grads, (metrics, model_state) = jax.grad(scalar, has_aux=True)(params)
    return grads, metrics, model_state


def no_combination(grads: Any) -> tuple[Any, dict]:
    """What is summed over the microbatches is the gradients, and has no metrics of its own."""
    return grads, {}


def update(
    state: TrainState, batch: Mapping, loss: Loss, tx: optax.GradientTransformation, *, group: str = "",
    accumulate: int = 1, clip_norm: float = 0.0, dtype: str = "float32", grad: Callable = gradients,
    combine: Callable = no_combination, rng_index: int = 0,
) -> tuple[TrainState, dict]:  # fmt: skip
    """One optimiser update of `state.params` (or of its `group`); does not count as a step.

    Returns the state and the loss's metrics, with `grad_norm`, `learning_rate` and `bad`: the first of n gradients (i), the
    loss (n) and n updated parameters (n + 1 + i) that is not finite, else -1. The norm, and so clipping, is of the gradients
    of the parameters that `tx` trains at this step. No gradient is computed for those that it never trains.
    `combine` makes of what `grad` returns, summed over the microbatches, (gradients, further metrics): what is not linear in
    the gradients (a projection of one task's by another's) belongs there, and not in `grad`.
    `rng_index` numbers several updates of one step, so that each has random numbers of its own.
    Raises UserError, while it is traced, for a loss that does not return what `Loss` says.
    """
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), rng_index)
    params = state.params[group] if group else state.params
    trains = tx.trains(params) if hasattr(tx, "trains") else jax.tree.map(lambda _: True, params)

    def of_group(p, model_state, batch, key):
        p = jax.tree.map(lambda x, counts: x if counts else jax.lax.stop_gradient(x), p, trains)
        whole = {**state.params, group: p} if group else p
        return _checked(loss(cast(whole, dtype), model_state, cast(batch, dtype), key))

    grads, metrics, model_state = _accumulated(of_group, params, state.model_state, batch, key, accumulate, grad)
    grads, more = combine(grads)
    leaves = checkpoint_name(jax.tree.leaves(grads), f"{group}/gradient")  # a name for `almanac replay`: no operation
    squares = [jnp.sum(jnp.square(g.astype(jnp.float32))) for g in leaves]
    norm = jnp.sqrt(sum(_counting(squares, trains, tx, params, state.step)))
    if clip_norm:
        grads = jax.tree.map(lambda g: g * (clip_norm / jnp.maximum(norm, clip_norm)), grads)
    old = state.opt[group] if group else state.opt
    updates, opt = tx.update(grads, old, params)
    params = optax.apply_updates(params, updates)
    bad = _first_bad(squares, metrics["loss"][0], params)
    metrics = {**metrics, **more, "grad_norm": (norm, 1.0), "bad": bad}
    if hasattr(tx, "schedule"):
        metrics["learning_rate"] = (tx.schedule(state.step), 1.0)
    if group:
        params, opt = {**state.params, group: params}, {**state.opt, group: opt}
        metrics = {f"{group}/{k}": v for k, v in metrics.items()}
    return state.replace(params=params, opt=opt, model_state=model_state), metrics


def _counting(squares: list[jax.Array], trains: Any, tx: Any, params: Any, step: jax.Array) -> list[jax.Array]:
    """The squared norms of the parameters that train at this step."""
    begins = jax.tree.leaves(tx.begins(params)) if hasattr(tx, "begins") else [0] * len(squares)
    each = zip(squares, jax.tree.leaves(trains), begins, strict=True)
    return [jnp.where(step >= first, square, 0) if first else square for square, counts, first in each if counts]


def advance(state: TrainState, ema: float = 0.0) -> TrainState:
    """Counts a step and, if `ema`, averages the parameters: ema <- decay * ema + (1 - decay) * params."""
    if ema:
        averaged = jax.tree.map(lambda e, p: ema * e + (1 - ema) * p, state.ema, state.params)
        state = state.replace(ema=averaged)
    return state.replace(step=state.step + 1)


def _checked(returned: Any) -> tuple[Terms, tuple[dict, Any]]:
    """What a loss returned. Raises UserError, which names the term or the metric, if it has not the form of `Loss`."""
    if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[0], Mapping):
        raise UserError("the loss does not return (terms, (metrics, model_state)); see research/core/step.py")
    terms, aux = returned
    check_terms(terms)
    if not isinstance(aux, tuple) or len(aux) != 2 or not isinstance(aux[0], Mapping):
        raise UserError("the loss returns terms without (metrics, model_state); see research/core/step.py")
    check(aux[0])
    if "loss" not in aux[0]:
        raise UserError(f"the loss's metrics lack 'loss'; there are {', '.join(sorted(aux[0])) or 'none'}")
    return returned


def _accumulated(loss, params, model_state, batch, key, parts: int, grad: Callable):
    """Gradients summed over `parts` microbatches, equal to those of the whole batch whatever the terms' weights."""
    if parts == 1:
        return grad(loss, params, model_state, batch, key)
    rows = len(jax.tree.leaves(batch)[0])
    if rows % parts:
        raise UserError(f"data.batch_size = {rows} does not divide into optim.accumulate = {parts} parts")
    # Every parts-th row, so that each device's rows stay on that device.
    batch = jax.tree.map(lambda x: x.reshape(rows // parts, parts, *x.shape[1:]).swapaxes(0, 1), batch)
    numbered = (jnp.arange(parts), batch)

    def weigh(_, inputs):  # the compiler drops what the weights do not need: the forward pass of most losses
        i, micro = inputs
        terms, _ = loss(params, model_state, micro, jax.random.fold_in(key, i))
        return None, {name: weight for name, (_, weight, _) in terms.items()}

    weights = jax.tree.map(lambda w: w.sum(0), jax.lax.scan(weigh, None, numbered)[1])

    def one(model_state, inputs):
        i, micro = inputs
        grads, metrics, model_state = grad(loss, params, model_state, micro, jax.random.fold_in(key, i), weights)
        return model_state, (grads, metrics)

    first, rest = (jax.tree.map(lambda x, of=of: x[of], numbered) for of in (0, slice(1, None)))

    def add(carry, inputs):
        model_state, out = one(carry[0], inputs)
        return (model_state, jax.tree.map(jnp.add, carry[1], out)), None

    (model_state, (grads, metrics)), _ = jax.lax.scan(add, one(model_state, first), rest)
    return grads, metrics, model_state


def _first_bad(squares: list[jax.Array], loss: jax.Array, params: Any) -> jax.Array:
    finite = [*map(jnp.isfinite, [*squares, loss]), *(jnp.isfinite(p).all() for p in jax.tree.leaves(params))]
    bad = ~jnp.stack(finite)
    return jnp.where(bad.any(), jnp.argmax(bad), -1).astype(jnp.int32)


def _guarded(fn: Callable, skip: bool) -> Callable:
    """`fn` that does not make updates that are not finite.

    With `skip` the step is counted, and training continues. Otherwise the state stays what it was before the first of them,
    also in the steps that were dispatched before the host saw it.
    """

    def step(state, batch):
        new, metrics = fn(state, batch)
        bad = [value for name, value in metrics.items() if name.endswith("bad")]
        if not bad:
            return new, metrics
        good = (jnp.stack(bad) < 0).all() & (skip | (state.skipped == 0))
        old = state.replace(step=new.step if skip else state.step, skipped=state.skipped + 1)
        return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old), metrics

    return step


class Launch(dict):
    """The batches of several steps for one launch: `{name: array[K, B, ...]}`. Its metrics have a first axis K, too."""


class Step:
    """A jitted `fn(state, batch) -> (state, metrics)`: donates the state and keeps its shardings.

    Given a `Launch`, it makes that many steps in one program, each as if it were alone.
    `not_finite` says what becomes of an update that is not: "skip", or "stop" and "rollback", which keep the state before it.
    """

    def __init__(self, fn: Callable, not_finite: str = "stop"):
        if not_finite not in POLICIES:
            raise UserError(f"not_finite = {not_finite!r}{nearest(not_finite, POLICIES)}")
        self.fn, self._skip = fn, not_finite == "skip"
        self._jit: dict[bool, Any] = {}

    def jit(self, state: TrainState, several: bool = False) -> Any:
        if several not in self._jit:
            shards = jax.tree.map(lambda x: x.sharding, state)
            replicated = mesh_lib.replicated(state.step.sharding.mesh)
            one = _guarded(self.fn, self._skip)
            fn = partial(jax.lax.scan, one) if several else one
            self._jit[several] = jax.jit(fn, donate_argnums=0, out_shardings=(shards, replicated))
        return self._jit[several]

    def __call__(self, state: TrainState, batch: Mapping) -> tuple[TrainState, dict]:
        if isinstance(batch, Launch):
            return self.jit(state, several=True)(state, dict(batch))
        return self.jit(state)(state, batch)

    def lower(self, state: TrainState, batch: Mapping):
        """Ahead of time, from shapes with shardings: `jax.jit(...).lower(...)`."""
        return self.jit(state).lower(state, batch)

    def eval_shape(self, state: TrainState, batch: Mapping):
        """The result's shapes, from shapes with shardings: `jax.jit(...).eval_shape(...)`. `lower` need not trace it again."""
        return self.jit(state).eval_shape(state, batch)

    def trace(self, state: TrainState, batch: Mapping):
        """The jaxpr, from shapes: what `almanac show` counts FLOPs of."""
        return jax.make_jaxpr(self.fn)(state, batch)


def options(cfg: Any) -> dict:
    """What the config says of a step: keywords of `make_train_step`."""
    return {
        "dtype": cfg.dtype,
        "not_finite": cfg.not_finite,
        **{k: cfg.optim[k] for k in ("accumulate", "clip_norm", "ema")},
    }


def make_train_step(
    loss: Loss, tx: optax.GradientTransformation, *, dtype: str = "float32", accumulate: int = 1, clip_norm: float = 0.0,
    ema: float = 0.0, grad: Callable = gradients, combine: Callable = no_combination, not_finite: str = "stop",
) -> Step:  # fmt: skip
    """A loss and an optimiser -> the step of a family with one network. `grad` and `combine` are as `update` has them."""

    def train_step(state, batch):
        state, metrics = update(
            state, batch, loss, tx, accumulate=accumulate, clip_norm=clip_norm, dtype=dtype, grad=grad, combine=combine
        )
        return advance(state, ema), metrics

    return Step(train_step, not_finite)


def make_eval_step(predict: Callable, batch_metrics: Callable, dtype: str = "float32") -> Callable:
    """-> (state, batch) -> metric sums, jitted: `batch_metrics(outputs, batch)` of `predict(variables, batch)`."""

    @jax.jit
    def eval_step(variables, batch):
        variables = {**variables, "params": cast(variables["params"], dtype)}
        return batch_metrics(predict(variables, cast(batch, dtype)), batch)

    return lambda state, batch: eval_step(state.variables, batch)

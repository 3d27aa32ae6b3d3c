"""LoRA (Hu et al. 2021, 2106.09685): fine-tuning by low-rank additions to matrices that stay as they are.

Of a config's `lora` group:

    rank       r: W [in, out] becomes W + scale a b, with a [in, r] from N(0, 1 / in) and b [r, out] of zeros
    alpha      scale is alpha / r, or alpha / sqrt(r) with `rank_stabilised` (Kalajdzievski 2023, 2312.03732)
    targets    a regular expression of the paths that get adapters: matrices, be they of a stack of layers (`scan`)
    full       of the paths that train in full beside them: by default those of `pretrained.fresh`, a new head's

All else is frozen: it has no gradient and no moments. Losses and predictions get merged parameters, so that any Linen module can
be adapted as it is; research/core/low_rank.py merges, and says what lies where in the state. Dropout of the adapters' input is
left out: it is no function of merged parameters.
"""

import dataclasses
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from research.algorithms.finetune import SCANNED
from research.core import state as states
from research.core.low_rank import FROZEN, A, B, merge
from research.core.step import Loss, cast
from research.util.errors import UserError

TARGETS = r"(^|/)(qkv|q|kv|out|up|gate|down)/kernel$"  # the matrices of a transformer's layers
ALPHA = 16.0


@dataclasses.dataclass(frozen=True)
class LoRA:
    """What the config says; its methods turn the parts of an `Experiment` into those of one that trains adapters."""

    rank: int
    scale: float
    targets: str
    full: str

    def init(self, init_fn: Callable[[jax.Array], Mapping]) -> Callable[[jax.Array], dict]:
        """key -> the variables of `init_fn`, with what trains under "params" and the rest under "frozen".

        That raises UserError if a pattern matches nothing, a target is no matrix, or the rank exceeds its smaller side.
        """

        def fn(key: jax.Array) -> dict:
            variables = dict(init_fn(key))
            params = flatten_dict(variables.pop("params"), sep="/")
            targets, full = self._choose(params)
            trained = {name: params[name] for name in full}
            for name in targets:
                for part, array in self._adapters(name, params[name], key).items():
                    trained[f"{name}/{part}"] = array
            base = _nested({name: x for name, x in params.items() if name not in full})
            return {"params": _nested(trained), **variables, FROZEN: {"params": base, "scale": jnp.float32(self.scale)}}

        return fn

    def loss(self, loss: Loss) -> Loss:
        """The loss of the model's parameters -> that of what trains."""

        def of_trained(params: Any, model_state: Any, batch: Mapping, key: jax.Array) -> Any:
            frozen, others = _split(model_state)
            dtype = jax.tree.leaves(params)[0].dtype.name  # the one of compute
            terms, (metrics, others) = loss(cast(merge(frozen, params), dtype), others, batch, key)
            return terms, (metrics, {**others, FROZEN: frozen})

        return of_trained

    def load(self, load_pretrained: Callable) -> Callable:
        """`Experiment.load_pretrained` of the model's parameters -> one that fills the frozen ones, and what trains in full."""

        def load(state: states.TrainState, run: Any) -> states.TrainState:
            frozen, others = _split(state.model_state)
            trained, base = flatten_dict(state.params, sep="/"), flatten_dict(frozen["params"], sep="/")
            full = {name: x for name, x in trained.items() if not _is_adapter(name)}
            loaded = load_pretrained(state.replace(params=_nested({**base, **full}), model_state=others, ema={}), run)
            params = flatten_dict(loaded.params, sep="/")
            new = _nested({name: params.get(name, x) for name, x in trained.items()})
            frozen = {**frozen, "params": _nested({name: params[name] for name in base})}
            run.note(self._line(trained, base))
            averaged = jax.tree.map(jnp.copy, new) if state.ema else state.ema
            return state.replace(params=new, model_state={**loaded.model_state, FROZEN: frozen}, ema=averaged)

        return load

    def _choose(self, params: Mapping[str, Any]) -> tuple[list[str], set[str]]:
        full = {name for name in params if self.full and re.search(self.full, name)}
        targets = [name for name in params if name not in full and re.search(self.targets, name)]
        for key, pattern, names in (("full", self.full, full), ("targets", self.targets, targets)):
            if pattern and not names:
                raise UserError(f"lora.{key} = {pattern!r} matches no parameter; see the paths with `almanac show`")
        return targets, full

    def _adapters(self, name: str, weight: Any, key: jax.Array) -> dict[str, jax.Array]:
        stack = weight.shape[: bool(SCANNED.search(name))]
        if weight.ndim - len(stack) != 2:
            raise UserError(
                f"lora.targets = {self.targets!r} matches {name} {list(weight.shape)}, which is no matrix [in, out]: "
                "convolutions, experts and vectors get no adapters"
            )
        inputs, outputs = weight.shape[-2:]
        if self.rank > min(inputs, outputs):
            raise UserError(
                f"lora.rank = {self.rank}: at most {min(inputs, outputs)}, as {name} is {[inputs, outputs]}"
            )
        key = jax.random.fold_in(key, zlib.crc32(name.encode()))
        a = jax.random.normal(key, (*stack, inputs, self.rank), weight.dtype) * inputs**-0.5
        return {A: a, B: jnp.zeros((*stack, self.rank, outputs), weight.dtype)}

    def _line(self, trained: Mapping[str, Any], base: Mapping[str, Any]) -> str:
        matrices = sum(name.endswith(f"/{A}") for name in trained)
        trains = states.count(trained)
        total = states.count(base) + sum(x.size for name, x in trained.items() if not _is_adapter(name))
        return (
            f"lora     rank {self.rank} at {matrices} arrays: {trains:,} parameters train, {trains / total:.2%} "
            f"of the model's {total:,}"
        )


def make(group: Mapping[str, Any], pretrained: Mapping[str, Any]) -> LoRA | None:
    """The `lora` and `pretrained` groups of a config -> what they say; None without a rank.

    Raises UserError for values that mean nothing, and without pretrained weights.
    """
    rank = group.get("rank")
    if rank is None:
        return None
    if type(rank) is not int or rank < 1:
        raise UserError(f"lora.rank = {rank!r}: a whole number, at least 1; None trains all parameters")
    if not pretrained["weights"]:
        raise UserError(f"lora.rank = {rank} adapts trained weights: set pretrained.weights (or --init-from)")
    alpha, stabilised = group.get("alpha", ALPHA), group.get("rank_stabilised", False)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not alpha > 0:
        raise UserError(f"lora.alpha = {alpha!r}: a number above 0")
    if not isinstance(stabilised, bool):
        raise UserError(f"lora.rank_stabilised = {stabilised!r}: True, or None")
    patterns = {"targets": group.get("targets", TARGETS), "full": group.get("full", pretrained["fresh"] or "")}
    for key, pattern in patterns.items():
        try:
            re.compile(pattern)
        except (re.error, TypeError) as e:
            raise UserError(f"lora.{key} = {pattern!r} is no regular expression: {e}") from None
    return LoRA(rank, alpha / (rank**0.5 if stabilised else rank), **patterns)


def _split(model_state: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    return model_state[FROZEN], {name: x for name, x in model_state.items() if name != FROZEN}


def _is_adapter(name: str) -> bool:
    return name.rpartition("/")[2] in (A, B)


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    return unflatten_dict(flat, sep="/")

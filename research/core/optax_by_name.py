"""An Optax transformation by the name of its constructor, with options from a config."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import optax

from research.util.errors import UserError, nearest

RATE = "learning_rate"


def make(
    name: str, options: Mapping[str, Any], rate: Callable, weight_decay: float, mask: Callable, own: Mapping[str, Callable],
    known: Iterable[str] = (),
) -> optax.GradientTransformation:  # fmt: skip
    """`own[name]` or `optax.<name>`, called with `options`.

    A constructor with a `learning_rate` gets the schedule `rate`, and `weight_decay` must be 0: such constructors have an
    option for it. Otherwise weight decay under `mask` and the rate are chained after it. `known` are further names to
    suggest. Raises UserError for an unknown name or option.
    """
    constructor = own.get(name) or _constructors().get(name)
    if constructor is None:
        raise UserError(f"there is no optimiser {name!r}{nearest(name, [*known, *own, *_constructors()])}")
    takes = list(inspect.signature(constructor).parameters)
    for key in options:
        if key not in takes or key == RATE:
            rest = ", ".join(each for each in takes if each != RATE) or "none"
            raise UserError(f"optim.options.{key} = {options[key]!r} is no option of {name}; it takes {rest}")
    if RATE in takes and weight_decay:
        raise UserError(f"optim.weight_decay = {weight_decay}: {name} has its own; set it to 0, and see optim.options")
    try:
        tx = constructor(**options, **({RATE: rate} if RATE in takes else {}))
    except (TypeError, ValueError) as e:
        raise UserError(f"optim.name = {name!r} with optim.options = {dict(options)}: {e}") from None
    tx = _checked(tx, name)
    if RATE in takes:
        return tx
    decay = [optax.add_decayed_weights(weight_decay, mask)] if weight_decay else []
    return optax.chain(tx, *decay, optax.scale_by_learning_rate(rate))


def _constructors() -> dict[str, Callable]:
    """Optax's public constructors that require no argument but a learning rate."""
    public = {
        name: value for name, value in vars(optax).items() if not name.startswith("_") and inspect.isfunction(value)
    }
    return {name: value for name, value in public.items() if _makes_a_transformation(value)}


def _makes_a_transformation(function: Callable) -> bool:
    signature = inspect.signature(function)
    made = str(signature.return_annotation)
    required = [p for p in signature.parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return "GradientTransformation" in made and all(p.name == RATE for p in required)


def _checked(tx: optax.GradientTransformation, name: str) -> optax.GradientTransformation:
    """`tx`, whose `init` raises UserError if an update needs more than gradients, state and parameters, as a line search does."""

    def init(params: Any) -> Any:
        state = tx.init(params)
        try:
            jax.eval_shape(lambda: tx.update(params, state, params))
        except TypeError as e:
            raise UserError(f"optim.name = {name!r} cannot be used in a step: {e}") from None
        return state

    return optax.GradientTransformation(init, tx.update)

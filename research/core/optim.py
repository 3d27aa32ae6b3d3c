"""Config -> Optax chain: the rule by name, its schedule, weight decay and freezing by parameter path.

Parameters that `optim.freeze` names never train; those of `optim.unfreeze` wait, as research/core/waiting.py has it.
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from research.core import optax_by_name as by_name
from research.core import waiting
from research.core.mesh import path_name
from research.util.errors import UserError, nearest
from research.util.nested import plain


def _all(params: Any) -> Any:
    return jax.tree.map(lambda _: True, params)


def _at_once(params: Any) -> Any:
    return jax.tree.map(lambda _: 0, params)


class Optimizer(NamedTuple):
    """An Optax transformation with its learning-rate schedule.

    `trains` and `begins` make trees like the parameters: of bools, and of the step from which each trains.
    """

    init: Callable
    update: Callable
    schedule: Callable
    trains: Callable[[Any], Any] = _all
    begins: Callable[[Any], Any] = _at_once


class Rule(NamedTuple):
    make: Callable
    options: tuple[str, ...] = ()  # keys of the config that it takes
    decoupled: bool = False


def _rmsprop(b2: float = 0.99, eps: float = 1e-8, momentum: float = 0.0):
    rms = optax.scale_by_rms(decay=b2, eps=eps, eps_in_sqrt=False)
    return optax.chain(rms, optax.trace(decay=momentum)) if momentum else rms


def _amsgrad_raw(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """AMSGrad as its paper and PyTorch have it: the maximum is of the raw second moments v, before any bias correction.

    The update is m / (1 - b1^t) / (sqrt(max v / (1 - b2^t)) + eps). Optax takes the maximum of v / (1 - b2^t), in which the
    first gradients weigh most: of two gradients 1 and 0 its second denominator is 1, here 0.707.
    """

    def init(params):
        mu, nu, nu_max = (jax.tree.map(jnp.zeros_like, params) for _ in range(3))
        return optax.ScaleByAmsgradState(jnp.zeros((), jnp.int32), mu, nu, nu_max)

    def update(updates, state, params=None):
        del params
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.nu, updates)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu)
        count = optax.safe_increment(state.count)
        first, second = 1 - b1**count, 1 - b2**count
        updates = jax.tree.map(lambda m, v: m / first / (jnp.sqrt(v / second) + eps), mu, nu_max)
        return updates, optax.ScaleByAmsgradState(count, mu, nu, nu_max)

    return optax.GradientTransformation(init, update)


def _lamb(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6):
    return optax.scale_by_adam(b1, b2, eps)


def _muon(rate: Callable, momentum: float = 0.95):
    """Hidden matrices orthogonalised, the rest by Adam."""
    return optax.contrib.muon(rate, beta=momentum, muon_weight_dimension_numbers=_muon_axes)


RULES = {
    "sgd": Rule(optax.identity),
    "momentum": Rule(lambda momentum=0.9: optax.trace(momentum), ("momentum",)),
    "nesterov": Rule(lambda momentum=0.9: optax.trace(momentum, nesterov=True), ("momentum",)),
    "rmsprop": Rule(_rmsprop, ("b2", "eps", "momentum")),  # Tieleman & Hinton 2012
    "adagrad": Rule(lambda eps=1e-10: optax.scale_by_rss(0.0, eps), ("eps",)),  # Duchi 2011
    "adadelta": Rule(lambda b2=0.9, eps=1e-6: optax.scale_by_adadelta(b2, eps), ("b2", "eps")),  # Zeiler 2012
    "adam": Rule(optax.scale_by_adam, ("b1", "b2", "eps")),  # Kingma & Ba 2015
    "adamw": Rule(optax.scale_by_adam, ("b1", "b2", "eps"), decoupled=True),  # Loshchilov & Hutter 2019
    # Reddi 2018, but for the maximum, which Optax takes after bias correction; as the paper and PyTorch: amsgrad_raw.
    "amsgrad": Rule(optax.scale_by_amsgrad, ("b1", "b2", "eps")),
    "amsgrad_raw": Rule(_amsgrad_raw, ("b1", "b2", "eps")),
    "lamb": Rule(_lamb, ("b1", "b2", "eps"), decoupled=True),  # You 2020; trust ratio below
    "lion": Rule(optax.scale_by_lion, ("b1", "b2"), decoupled=True),  # Chen 2023
}

# Optimisers that take the rate themselves: rate, options -> a transformation.
WHOLE = {
    "adafactor": Rule(optax.adafactor),  # Shazeer & Stern 2018
    "muon": Rule(_muon, ("momentum",)),  # Jordan 2024
}


class Own(NamedTuple):
    """What a family adds to the names that a config may use.

    transformations  {optim.name: constructor}, as Optax has them: with a `learning_rate` (a schedule), or without
    schedules        {optim.schedule: (peak_lr, end_lr, steps after the warm-up) -> an Optax schedule}
    """

    transformations: Mapping[str, Callable] = {}
    schedules: Mapping[str, Callable[[float, float, int], Callable]] = {}


def make(cfg: Mapping, num_steps: int, updates: int = 1, own: Own | None = None) -> Optimizer:
    """The `optim` group of a config (keys as config.OPTIM, durations in steps) -> an Optimizer for `num_steps` steps.

    `optim.name` is one of RULES or WHOLE, one of `own.transformations`, or a constructor of Optax's (`optax.NAME`), which
    takes `optim.options`. `updates` is how often a step calls it: Optax counts updates, schedules are in steps.
    """
    own = own or Own()
    _check_numbers(cfg)
    by_step = schedule(cfg, num_steps, own.schedules)
    rate = by_step if updates == 1 else lambda count: by_step(count // updates)
    frozen, decay = (_pattern(cfg, key) for key in ("freeze", "decay"))
    groups = waiting.groups(cfg.get("unfreeze"), num_steps)

    def transform(first: int) -> optax.GradientTransformation:  # whose own first update is that of step `first`
        here = (lambda count: rate(count + first * updates)) if first else rate
        return _transform(cfg, here, lambda params: _matching(params, decay), own.transformations)

    tx = waiting.until(groups, transform, updates) if groups else transform(0)
    if frozen:
        tx = optax.multi_transform({True: waiting.still(), False: tx}, lambda params: _matching(params, frozen))

    def init(params):
        for key, pattern in {"freeze": frozen, "decay": decay if cfg["weight_decay"] else ""}.items():
            if pattern and not any(jax.tree.leaves(_matching(params, pattern))):
                raise UserError(f"optim.{key} = {pattern!r} matches no parameter; see the paths with `almanac show`")
        waiting.check(groups, params)
        return tx.init(params)

    def trains(params):
        return jax.tree.map(lambda matches: not matches, _matching(params, frozen)) if frozen else _all(params)

    return Optimizer(init, tx.update, by_step, trains, lambda params: waiting.begins(groups, params))


def _check_numbers(cfg: Mapping) -> None:
    """Raises UserError for a number that no optimiser can use. Looking at a key here does not count as reading it."""
    values = plain(cfg)
    ranges = {
        "at least 0": (0, math.inf, ("peak_lr", "end_lr", "weight_decay", "clip_norm", "warmup", "drop", "eps")),
        "from 0 to below 1": (0, 1, ("ema", "b1", "b2", "momentum")),
        "at least 1": (1, math.inf, ("accumulate",)),
    }
    for words, (least, end, keys) in ranges.items():
        for key in keys:
            value = values.get(key)
            if value is not None and not (isinstance(value, int | float) and least <= value < end):
                raise UserError(f"optim.{key} = {value!r}: a number {words}")
    if not all(isinstance(step, int) and step >= 0 for step in values["boundaries"]):
        raise UserError(f"optim.boundaries = {values['boundaries']}: steps, each at least 0")


def _transform(cfg: Mapping, rate: Callable, mask: Callable, own: Mapping) -> optax.GradientTransformation:
    name, wd = cfg["name"], cfg["weight_decay"]
    known = RULES | WHOLE
    hyperparameters = {k: cfg[k] for k in ("b1", "b2", "eps", "momentum") if cfg[k] is not None}
    options = dict(cfg.get("options") or {})
    if name not in known or name in own:
        _only(name, hyperparameters, ())
        return by_name.make(name, options, rate, wd, mask, own, known)
    rule = known[name]
    _only(name, hyperparameters, rule.options)
    if options:
        raise UserError(
            f"optim.options = {options} is for Optax's own names; {name} takes optim.b1, b2, eps and momentum"
        )
    if name in WHOLE:  # their own decay knows no mask (Muon's Adam), or no rate (Adafactor)
        tx = rule.make(rate, **hyperparameters)
        return optax.chain(tx, optax.add_decayed_weights(lambda t: -wd * rate(t), mask)) if wd else tx
    parts = [rule.make(**hyperparameters)]
    if wd:
        parts.insert(len(parts) if rule.decoupled else 0, optax.add_decayed_weights(wd, mask))
    if name == "lamb":
        parts.append(optax.scale_by_trust_ratio())
    return optax.chain(*parts, optax.scale_by_learning_rate(rate))


def _only(name: str, given: Mapping, options: tuple[str, ...]) -> None:
    for key in given:
        if key not in options:
            takes = ", ".join(options) or "none of b1, b2, eps, momentum"
            raise UserError(f"optim.{key} = {given[key]!r} is no option of {name}; it takes {takes}")


def schedule(cfg: Mapping, num_steps: int, own: Mapping[str, Callable] | None = None) -> Callable:
    """Step i32[] -> learning rate f32[]: a linear warm-up from 0, then the named schedule to the last step.

    `own` has further schedules by name, as `Own` says.
    """
    kind, peak, end, warm = cfg["schedule"], cfg["peak_lr"], cfg["end_lr"], cfg["warmup"]
    boundaries, drop = cfg["boundaries"], cfg["drop"]
    if warm >= num_steps > 0:
        raise UserError(f"optim.warmup = {warm} steps leaves none of num_steps = {num_steps}")
    steps = max(1, num_steps - warm)
    kinds = {
        "constant": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, end, steps),
        "cosine": lambda: optax.cosine_decay_schedule(peak, steps, alpha=end / peak if peak else 0.0),
        "step": lambda: optax.piecewise_constant_schedule(peak, {int(b) - warm: drop for b in boundaries}),
        # Vaswani 2017, eq. 3, scaled so that the peak stands at the end of the warm-up.
        "rsqrt": lambda: lambda t: peak * (max(warm, 1) / (t + max(warm, 1))) ** 0.5,
    }
    kinds |= {name: partial(make_own, peak, end, steps) for name, make_own in (own or {}).items()}
    if kind not in kinds:
        raise UserError(f"there is no schedule {kind!r}{nearest(kind, kinds)}")
    if end and kind not in ("linear", "cosine", *(own or {})):
        raise UserError(f"optim.end_lr = {end} is no option of the schedule {kind}; set it to 0")
    if bool(boundaries) != (kind == "step"):
        raise UserError(
            f"optim.boundaries = {boundaries} with the schedule {kind}: 'step' needs them, no other takes them"
        )
    after = kinds[kind]()
    if not warm:
        return after
    # Both are computed at every step, and a schedule need not be defined before its own first step.
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warm), lambda t: after(jnp.maximum(t, 0))], [warm])


def _pattern(cfg: Mapping, key: str) -> str:
    try:
        re.compile(cfg[key])
    except re.error as e:
        raise UserError(f"optim.{key} = {cfg[key]!r} is no regular expression: {e}") from None
    return cfg[key]


def _matching(params: Any, pattern: str) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: bool(re.search(pattern, path_name(path))), params)


def _muon_axes(params: Any) -> Any:
    def axes(path, leaf):
        if leaf.ndim < 2 or not path_name(path).endswith("kernel") or "head" in path_name(path):
            return None
        reduction = tuple(range(leaf.ndim - 1)) if leaf.ndim == 4 else -2  # a convolution's window and inputs
        return optax.contrib.MuonDimensionNumbers(reduction, -1)

    return jax.tree_util.tree_map_with_path(axes, params)

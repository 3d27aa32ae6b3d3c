"""Supervised learning: a data set, one module and three functions make an `Experiment`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from research.algorithms import finetune, lora, max_norm
from research.algorithms.defaults import FINETUNE, MAX_NORM
from research.core import mesh, optim
from research.core.config import TrackedConfig, track_reads
from research.core.experiment import Dataset, Experiment, Predictor
from research.core.step import make_eval_step, make_train_step, options
from research.interop import weights
from research.util.errors import UserError, nearest
from research.util.nested import plain


def supervised(
    cfg: TrackedConfig,
    data: Dataset,
    model: Any,
    *,
    example: Any,
    loss: Callable,
    predict: Callable,
    batch_metrics: Callable,
    rule_sets: Mapping[str, Any],
    eval_predict: Callable | None = None,
    own: optim.Own | None = None,
    gradient: Mapping[str, Any] | None = None,
    **more: Any,
) -> Experiment:
    """The experiment of one network that learns from examples, as `cfg` says.

    data           a `Dataset`: batches, and the way between raw values and arrays
    model          a Linen module
    example        arguments of one example that the parameters are initialised with, {name: array} or a tuple of arrays
    loss           (model, params, model_state, batch, key) -> (terms, (metrics, model_state)), as research/core/step.py has it
    predict        (model, variables, inputs) -> {name: array}: inference
    batch_metrics  (outputs of `eval_predict`, batch) -> {name: (sum, weight)}
    rule_sets      {name: sharding rules} of this model, from which `cfg.rules` chooses
    eval_predict   `predict` for evaluation, if it differs
    own            transformations and schedules of the family's own, by the names that a config gives
    gradient       another estimator of the gradient: keywords `grad` and `combine` of research/core/step.py's `update`
    more           further fields of the `Experiment`, which also replace those made here

    Sets that `cfg.evals` has and the data has not are loaded by `data.eval_batches`.
    Durations of `cfg` become steps here. Groups `finetune`, `lora` and `max_norm` are used if the config has them.
    """
    train = data.train
    cfg = cfg.in_steps(train.epoch, train.examples_per_step)
    tx = finetune.make(cfg.optim, cfg.get("finetune", FINETUNE), cfg.num_steps, own)
    bound = cfg.get("max_norm", MAX_NORM)
    tx = max_norm.wrap(tx, bound["limit"], bound["match"])
    adapters, objective = lora.make(cfg.get("lora", {}), cfg.pretrained), partial(loss, model)
    if adapters:
        objective = adapters.loss(objective)
    fn, evaluated = partial(predict, model), partial(eval_predict if eval_predict else predict, model)
    given, named = ((), example) if isinstance(example, Mapping) else (example, {})
    made = dict(
        cfg=cfg,
        train=train,
        evals={**data.evals, **_further_sets(cfg, data)},
        init_fn=lambda key: model.init(key, *given, **named),
        load_pretrained=weights.pretrained(cfg.pretrained, model, *data.tokenizers),
        tx=tx,
        train_step=make_train_step(objective, tx, **options(cfg), **(gradient or {})),
        eval_step=make_eval_step(evaluated, batch_metrics, cfg.dtype),
        predictor=Predictor(fn, data.codec),
        rules=mesh.resolve(cfg.rules, rule_sets),
        sharding=rule_sets,
        ema=cfg.optim.ema,
        model=model,
        data=data,
    )
    made |= more
    if adapters:
        parts = made["init_fn"], made["load_pretrained"]
        made |= {"init_fn": adapters.init(parts[0]), "load_pretrained": adapters.load(parts[1])}
    return Experiment(**made)


def _further_sets(cfg: TrackedConfig, data: Dataset) -> dict[str, Any]:
    """{name: batches} of the sets of `cfg.evals` that name data of their own: keys of the `data` group, or `part`."""
    sets = {}
    for name, group in cfg.get("evals", {}).items():
        own = {key: group[key] for key in group if key != "every"} if isinstance(group, Mapping) else {}
        if not own:
            continue
        if name in data.evals:
            raise UserError(
                f"evals.{name}.{next(iter(own))}: the data has a {name} part; give the further set another name"
            )
        known = {"part": None, **plain(cfg.data)}
        for key in own:
            if key not in known:
                raise UserError(f"there is no config key 'evals.{name}.{key}'{nearest(key, ['every', *known])}")
        keys = track_reads({**known, **own})
        sets[name] = data.eval_batches(keys)
        if unread := [key for key in own if key in keys.unread()]:
            raise UserError(
                f"config key evals.{name}.{unread[0]} = {own[unread[0]]!r} is read by nothing in this set; remove it"
            )
    return sets

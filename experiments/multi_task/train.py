"""Multi-task learning on pictures: one trunk, a head for each task, and the tasks' weights."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.multi_task import model as models
from experiments.multi_task.data import MultiTask
from research.algorithms import gradient_balance
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums
from research.core.step import make_rngs
from research.interpret import targets
from research.losses import boxes
from research.losses.classification import negative_log_likelihood, weighted
from research.losses.multi_task import uncertainty
from research.models.vision.convnet import ConvNet
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError, nearest

WEIGHTS = ("fixed", "uncertainty", *gradient_balance.RULES)
SIDES = ("centre y", "centre x", "height", "width")
LOSSES = {"class": "cross_entropy", "box": "absolute"}  # a task's kind -> its loss, as `uncertainty` names it


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    data = MultiTask(cfg.data, cfg.tasks, cfg.seed)
    name, numbers = cfg.weights.name, _numbers(cfg.weights, list(data.kinds))
    model = models.MultiTask(from_config(ConvNet, cfg.model, num_classes=0), data.heads, name == "uncertainty")
    balances = name in gradient_balance.RULES
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, *data.shape)),),
        loss=partial(loss, kinds=data.kinds, weights=numbers),
        predict=partial(predict, kinds=data.kinds),
        eval_predict=partial(measures, kinds=data.kinds), batch_metrics=batch_metrics,
        gradient=gradient_balance.estimator(name, models.OWN) if balances else None,
        rule_sets=models.SHARDING, explained=partial(explained, kinds=data.kinds),
    )  # fmt: skip


def train(cfg: Any, workdir: str | Path, **options: Any) -> Any:
    """Trains a config, or an `Experiment`, to `num_steps`; resumes if `workdir` holds the run. Returns the final TrainState."""
    e = cfg if isinstance(cfg, Experiment) else build(cfg)
    with Run(e, workdir, **options) as run:
        state = run.start()
        for batch in run.batches():
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            for split, values in run.evaluate(state):
                run.log(split, values)
            state = run.save(state)
        return run.finish(state)


def loss(
    model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array, *,
    kinds: Mapping[str, str], weights: Mapping[str, float],
) -> tuple:  # fmt: skip
    """{"image": f32[B, Y, X, C], each task's label} -> a term a task, with `uncertainty` one more; metrics."""
    rngs = make_rngs(key, "dropout")
    metrics = dict(weighted(measures(model, {"params": params}, batch, kinds=kinds, train=True, rngs=rngs))[1])
    terms = {task: (*metrics[f"{task}_loss"], weights[task]) for task in kinds}
    if model.weighs:
        for (task, kind), s in zip(kinds.items(), params["log_variance"].astype(jnp.float32), strict=True):
            factor, constant = uncertainty(LOSSES[kind], s)
            total, count, _ = terms[task]
            terms |= {task: (total, count, factor), f"{task}_scale": (count * constant, count, 1.0)}
            metrics[f"{task}_weight"] = (count * factor, count)
    return terms, (metrics, model_state)


def measures(
    model: Any, variables: Any, batch: Any, *, kinds: Mapping[str, str], **options: Any
) -> dict[str, jax.Array]:
    """-> by picture, f32 or bool[B]: "TASK_loss"; "TASK_accuracy", or "TASK_iou"; and "loss", the sum of the tasks', unweighted.

    A class's loss is in nats, a box's the mean absolute error of its four numbers. `options` are of `model.apply`.
    """
    out = {}
    for task, output in model.apply(variables, batch["image"], **options).items():
        if kinds[task] == "class":
            out[f"{task}_loss"] = negative_log_likelihood(output, batch[task])
            out[f"{task}_accuracy"] = output.argmax(-1) == batch[task]
        else:
            box, target = to_box(output), batch[task].astype(jnp.float32)
            out[f"{task}_loss"] = jnp.abs(box - target).mean(-1)
            out[f"{task}_iou"] = boxes.iou(corners(box), corners(target))
    return out | {"loss": sum(out[f"{task}_loss"] for task in kinds)}


def predict(model: Any, variables: Any, inputs: Any, *, kinds: Mapping[str, str]) -> dict:
    """{"image": f32[B, Y, X, C] in 0..1} -> {task: probabilities f32[B, N], or box f32[B, 4]}."""
    outputs = model.apply(variables, inputs["image"])
    of_kind = {"class": lambda x: jax.nn.softmax(x.astype(jnp.float32)), "box": to_box}
    return {task: of_kind[kinds[task]](output) for task, output in outputs.items()}


def explained(
    e: Experiment, variables: Any, inputs: Any, *, kinds: Mapping[str, str], class_name: str | None = None
) -> targets.Target:
    """Of every task that classifies the logit of a class, by default its top-1; of every box its four numbers. A map for each."""
    outputs = predict(e.model, variables, inputs, kinds=kinds)
    chosen, names = [], []
    for task, kind in kinds.items():
        values = outputs[task][0]
        if kind == "class":
            number = int(values.argmax()) if class_name is None else targets.class_number(e.data.classes, class_name)
            chosen.append((task, number))
            names.append(f"{task} {e.data.classes[number]}: probability {values[number]:.4f}")
        else:
            chosen += [(task, i) for i in range(4)]
            names += [f"{task}, {side}: {value:.3f}" for side, value in zip(SIDES, values, strict=True)]

    def score(variables: Any, images: jax.Array) -> jax.Array:
        outputs = e.model.apply(variables, images)
        numbers = [outputs[task][row, number] for row, (task, number) in enumerate(chosen)]
        return jnp.stack(numbers).astype(jnp.float32)

    images = jnp.repeat(inputs["image"], len(chosen), 0)
    return targets.Target(score, images, "head's output", names, names)


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> each task's loss, and accuracy or overlap; the sum of the losses."""
    return weighted(outputs, batch["mask"])[1]


def to_box(output: jax.Array) -> jax.Array:
    """A head's f[B, 4] -> centre y, centre x, height, width, f32[B, 4] in 0..1."""
    return jax.nn.sigmoid(output.astype(jnp.float32))


def corners(box: jax.Array) -> jax.Array:
    """Boxes f32[B, 4] (centre y, centre x, height, width) -> their corners, f32[B, 4].

    >>> corners(jnp.array([[0.5, 0.5, 0.5, 1.0]])).tolist()
    [[0.25, 0.0, 0.75, 1.0]]
    """
    centre, half = box[:, :2], box[:, 2:] / 2
    return jnp.concatenate([centre - half, centre + half], -1)


def _numbers(weights: Mapping[str, Any], tasks: list[str]) -> dict[str, float]:
    """The fixed weight of each task: 1 unless `weights.values` has others. Raises UserError for what means nothing."""
    name, values = weights["name"], weights["values"]
    if name not in WEIGHTS:
        raise UserError(f"weights.name = {name!r}{nearest(str(name), WEIGHTS)}")
    if name != "fixed" and len(tasks) < 2:
        raise UserError(f"weights.name = {name!r} balances two tasks, and there is {tasks[0]} alone; set it to fixed")
    if values is None:
        return dict.fromkeys(tasks, 1.0)
    if name != "fixed" or len(values) != len(tasks) or not min(values) > 0:
        raise UserError(
            f"weights.values = {tuple(values)}: for fixed alone, one above 0 for each of {', '.join(tasks)}"
        )
    return dict(zip(tasks, map(float, values), strict=True))


if __name__ == "__main__":
    launch.main(train)

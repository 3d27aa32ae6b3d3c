"""Object detection: boxes of known classes, by an anchor-free grid with task-aligned assignment."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.detection import model as models
from experiments.detection.data import Boxes
from experiments.detection.evaluation import Evaluation
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment, Predictor
from research.core.metrics import MetricSums
from research.data.boxes import augment
from research.generation import boxes as grid
from research.losses import boxes as box_losses
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    data, found = Boxes(cfg.data, cfg.seed, cfg.found.least_score), dict(cfg.found)
    model = from_config(models.Grid, cfg.model, num_classes=len(data.classes))
    _check(cfg, model, data.shape)
    fn = partial(predict, keep=found["keep"], overlap=found["overlap"])
    evaluation = Evaluation(partial(fn, model), data)
    predictor = Predictor(partial(fn, model), data.codec)
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, *data.shape)),),
        loss=partial(loss, change=augment.make(dict(cfg.augment)), **dict(cfg.loss)),
        predict=fn, batch_metrics=batch_metrics, rule_sets=models.SHARDING,
        predictor=predictor, evaluator=evaluation, measured=list(data.held_out),
        whole_batch="batch statistics are of the whole batch",
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
    change: Any, box: float, distances: float, gamma: float, top: int, alpha: float, beta: float,
) -> tuple:  # fmt: skip
    """A batch as `Boxes` has it -> the terms of classes, boxes and distances, by the sum of the positive points' targets."""
    batch = change(key, batch)
    variables, mutable = {"params": params, **model_state}, list(model_state)
    (classes, sides), model_state = model.apply(variables, batch["image"], train=True, mutable=mutable)
    points, strides = models.points(model, batch["image"].shape[1:3])
    predicted = grid.from_distances(sides, points, strides)
    asked = box_losses.task_aligned(
        jax.nn.sigmoid(classes), predicted, points, batch["boxes"], batch["labels"], batch["box_mask"], top, alpha, beta
    )
    weights = asked.scores.sum(-1)  # [B, P]: 0 for a negative point
    total = jnp.maximum(weights.sum(), 1.0)
    targets = jnp.concatenate([points - asked.boxes[..., :2], asked.boxes[..., 2:] - points], -1) / strides[:, None]
    sums = {
        "classes": box_losses.quality_focal(classes, asked.scores, gamma).sum(),
        "boxes": (weights * (1 - box_losses.ciou(predicted, asked.boxes))).sum(),
        "distances": (weights * box_losses.distribution_focal(sides, targets).mean(-1)).sum(),
    }
    coefficients = {"classes": 1.0, "boxes": box, "distances": distances}
    terms = {name: (value, total, coefficients[name]) for name, value in sums.items()}
    whole = sum(coefficients[name] * value for name, value in sums.items())
    metrics = {"loss": (whole, total), **{name: (value, total) for name, value in sums.items()}}
    metrics["positive"] = (asked.positive.sum().astype(jnp.float32), jnp.float32(len(classes)))
    return terms, (metrics, model_state)


def predict(model: Any, variables: Any, inputs: Any, keep: int = 100, overlap: float = 0.6) -> dict:
    """{"image": f32[B, Y, X, C] in 0..1, "size": i32[B, 2]} -> the K best boxes, in the pictures' own pixels, best first.

    {"boxes": f32[B, K, 4], "labels": i32[B, K], "scores": f32[B, K]}; what fills up has score 0.
    """
    classes, sides = model.apply(variables, inputs["image"])
    shape = inputs["image"].shape[1:3]
    points, strides = models.points(model, shape)
    boxes = grid.from_distances(sides, points, strides)
    found = grid.non_maximum_suppression(boxes, jax.nn.sigmoid(classes), overlap, keep, 4 * keep)
    return {**found._asdict(), "boxes": grid.to_picture(found.boxes, inputs["size"], shape)}


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """None: average precision is of whole splits, and measured by the evaluator."""
    return {}


def _check(cfg: Any, model: models.Grid, shape: tuple[int, int, int]) -> None:
    stages = len(model.widths) - 1
    if not 1 <= model.levels <= stages:
        raise UserError(
            f"model.levels = {model.levels}: from 1 to {stages}, the stages of model.widths = {model.widths}"
        )
    largest = models.strides(model)[-1]
    if shape[0] % largest or shape[1] % largest:
        raise UserError(
            f"data.size = {cfg.data.size}: the grid's largest stride is {largest} pixels; make it a multiple"
        )
    if cfg.dtype != "float32":
        raise UserError(f"dtype = {cfg.dtype!r}: it would round boxes to whole pixels and worse; set it to 'float32'")
    limits = {
        "found.keep": (1, 1_000), "found.overlap": (0, 1), "found.least_score": (0, 1), "loss.top": (1, 1_000),
        "loss.gamma": (0, 10), "loss.box": (0, 100), "loss.distances": (0, 100), "loss.alpha": (0, 10), "loss.beta": (0, 10),
    }  # fmt: skip
    for key, (low, high) in limits.items():
        group, _, name = key.partition(".")
        if not low <= cfg[group][name] <= high:
            raise UserError(f"{key} = {cfg[group][name]}: from {low} to {high}")


if __name__ == "__main__":
    launch.main(train)

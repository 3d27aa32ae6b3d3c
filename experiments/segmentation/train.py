"""Semantic segmentation: the class of each pixel."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.segmentation.data import Segmentation
from experiments.segmentation.evaluation import Evaluation, ObjectEvaluation
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment, Predictor
from research.core.metrics import MetricSums, mean
from research.core.step import make_eval_step
from research.data.images import segmentation_augment
from research.evals import segmentation as evals
from research.generation import tiles
from research.interpret import targets
from research.losses import segmentation as losses
from research.models.vision import unet
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError, nearest


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    objects = None if cfg.objects is None else str(cfg.objects)  # a class may be named by a number
    data = Segmentation(cfg.data, cfg.seed, objects, cfg.markers)
    model = from_config(unet.UNet, cfg.model, num_classes=len(data.classes))
    change = segmentation_augment.make(cfg.augment, data.shape)
    _check(cfg, model, cfg.augment.crop or data.shape[:2])
    _check_objects(objects, cfg.markers, data)
    fn, outputs = partial(predict, tile=cfg.tile), partial(logits, tile=cfg.tile)
    measured = partial(batch_metrics, classes=data.classes)
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, *(unet.stride(model),) * 2, data.shape[2])),),
        loss=partial(loss, change=change, dice=cfg.loss.dice),
        predict=fn, eval_predict=outputs, batch_metrics=measured, split_metrics=evals.add_means,
        predictor=Predictor(partial(fn, model), data.codec),
        rule_sets=unet.SHARDING, explained=explained,
        **_evaluated(cfg, data, objects, partial(outputs, model), measured, partial(fn, model)),
        whole_batch="batch statistics are of the whole batch" if model.norm == "batch" else "",
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


def loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array, *, change: Any, dice: float) -> tuple:
    """A batch as `Segmentation` has it -> the terms of cross-entropy, by pixel, and Dice, by picture; metrics; model_state."""
    batch = change(key, batch)
    variables, mutable = {"params": params, **model_state}, list(model_state)
    scores, model_state = model.apply(variables, batch["image"], train=True, mutable=mutable)
    entropy = losses.pixel_cross_entropy(scores, batch["label"], batch.get("weight"))
    rows = jnp.float32(len(scores))
    terms, whole = {"loss": (*entropy, 1.0)}, mean(entropy)
    metrics = {"accuracy": accuracy(scores, batch["label"])}
    if dice:
        overlap = losses.soft_dice(scores, batch["label"]).sum()
        terms["dice"] = (overlap, rows, dice)
        metrics["dice"], whole = (overlap, rows), whole + dice * overlap / rows
    metrics["loss"] = (rows * whole, rows)  # of terms with different weights
    return terms, (metrics, model_state)


def accuracy(scores: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(pixels whose highest score is their class's, pixels that are not void)."""
    real = labels != losses.VOID
    return jnp.sum((scores.argmax(-1) == labels) & real, dtype=jnp.float32), jnp.sum(real, dtype=jnp.float32)


def logits(model: Any, variables: Any, inputs: Any, tile: int = 0) -> jax.Array:
    """{"image": f32[B, Y, X, C] in 0..1}, of any size -> f32[B, Y, X, N]; by tiles of `tile` pixels a side, which are equal."""
    fn = partial(model.apply, variables)
    return tiles.padded(fn, inputs["image"], unet.stride(model), tile, unet.reach(model)).astype(jnp.float32)


def predict(model: Any, variables: Any, inputs: Any, tile: int = 0) -> dict:
    """As `logits` -> {"probabilities": f32[B, Y, X, N]}."""
    return {"probabilities": jax.nn.softmax(logits(model, variables, inputs, tile))}


def explained(
    e: Experiment, variables: Any, inputs: Any, *, class_name: str | None = None, at: tuple[int, int] | None = None
) -> targets.Target:
    """The mean logit of a class over the pixels that it is predicted for, or at the pixel `at` (row, column).

    The class is by default that of the pixel, or of most pixels. Grad-CAM reads the coarsest level: Vinogradova et al. 2020
    (2002.11434).
    """
    image, classes = inputs["image"], e.data.classes
    labels = logits(e.model, variables, inputs)[0].argmax(-1)
    counts = jnp.bincount(labels.ravel(), length=len(classes))
    region = None if at is None else targets.pixel(at, labels.shape)
    if class_name is not None:
        k = targets.class_number(classes, class_name)
    else:
        k = int(counts.argmax() if region is None else labels[region])
    if region is None and not counts[k]:
        raise UserError(f"--class={class_name}: predicted for no pixel of the picture; name a pixel, too, by --at=Y,X")
    weights = labels == k if region is None else jnp.zeros(labels.shape).at[region].set(1.0)

    def score(variables: Any, image: jax.Array) -> jax.Array:
        return (logits(e.model, variables, {"image": image})[..., k] * weights).sum((1, 2)) / weights.sum()

    place = f"its {counts[k]:,} pixels" if region is None else f"pixel {region[0]},{region[1]}"
    others = ", ".join(f"{name} {n:,}" for i, (name, n) in enumerate(zip(classes, counts, strict=True)) if n and i != k)
    facts = [
        f"{classes[k]}: mean logit {float(score(variables, image)[0]):.4f} over {place}",
        f"others: {others or 'none'}",
    ]
    return targets.Target(score, image, "mean logit", facts, facts[:1], features="^bottom/")


def batch_metrics(outputs: jax.Array, batch: Any, classes: tuple[str, ...]) -> MetricSums:
    """-> the cross-entropy, in which all pixels weigh the same; accuracy; the sums of each class's IoU."""
    weights = jnp.broadcast_to(batch["mask"][:, None, None], batch["label"].shape)
    matrix = evals.confusion(outputs.argmax(-1), batch["label"], len(classes), batch["mask"])
    return {"loss": losses.pixel_cross_entropy(outputs, batch["label"], weights), **evals.by_class(matrix, classes)}


def _evaluated(cfg: Any, data: Segmentation, objects: str | None, logits: Any, measured: Any, predict: Any) -> dict:
    """The fields of the experiment that measure. With objects the evaluator does all, since their metrics need whole outputs."""
    if objects is None:
        return {"evaluator": Evaluation(predict, data)}

    def outputs(scores: jax.Array, batch: Any) -> tuple:
        return measured(scores, batch), jax.nn.softmax(scores)

    step, k = make_eval_step(logits, outputs, cfg.dtype), data.classes.index(objects)
    evaluator = ObjectEvaluation(step, evals.add_means, data, k, cfg.markers)
    return {"evaluator": evaluator, "judged": evaluator.METRICS, "eval_step": None}


def _check(cfg: Any, model: unet.UNet, shape: Any) -> None:
    stride, tile = unet.stride(model), cfg.tile
    rows, columns = (shape, shape) if isinstance(shape, int) else shape
    if rows % stride or columns % stride:
        raise UserError(
            f"augment.crop = {cfg.augment.crop}: the network trains on {rows} x {columns} pixels; "
            f"set it to a multiple of {stride}"
        )
    if cfg.loss.dice < 0:
        raise UserError(f"loss.dice = {cfg.loss.dice}: at least 0")
    if tile and model.norm == "group":
        raise UserError(f"tile = {tile}: a group norm's statistics are of the whole picture; set it to 0")
    least = 2 * (-(-unet.reach(model) // stride) * stride) + stride
    if tile and (tile % stride or tile < least):
        raise UserError(f"tile = {tile}: a multiple of {stride}, at least {least}, so that no seam shows; or 0")


def _check_objects(objects: str | None, markers: float | None, data: Segmentation) -> None:
    classes = data.classes[1:] if data.objects else data.classes  # of numbered objects the ground is none
    if objects is not None and objects not in classes:
        raise UserError(f"objects = {objects!r}: no class{nearest(objects, classes)}")
    if markers is not None and (objects is None or not 0 < markers < 1):
        raise UserError(f"markers = {markers}: a probability between 0 and 1, and with objects set to a class; or None")


if __name__ == "__main__":
    launch.main(train)

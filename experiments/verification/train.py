"""Verification: whether two pictures are of one class, be it never trained on. The form of face verification."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.verification import model as models
from experiments.verification.data import Verification
from experiments.verification.evaluation import Evaluation
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums
from research.data.images import augment
from research.interpret import targets
from research.losses import metric_learning
from research.losses.classification import cross_entropy, weighted
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError, nearest

LOSSES = ("arcface", "triplet")


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    data, options = Verification(cfg.data, cfg.seed), dict(cfg.loss)
    _check(options, cfg.shift)
    model = from_config(
        models.Embedder, cfg.model, num_classes=data.num_classes, classifies=options["name"] == "arcface"
    )
    evaluation = Evaluation(partial(predict, model), data)
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, *data.shape)),), loss=partial(loss, **options, shift=cfg.shift),
        predict=predict, batch_metrics=batch_metrics, rule_sets=models.SHARDING,
        evaluator=evaluation, judged=evaluation.METRICS, measured=evaluation.splits,
        whole_batch="batch statistics and triplets are of the whole batch", explained=explained,
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
    name: str, margin: float, scale: float, shift: int,
) -> tuple:  # fmt: skip
    """{"image": f32[B, Y, X, C], "label": i32[B]} -> the term by example or anchor, metrics, batch statistics."""
    if shift:
        batch = augment.crop(key, batch, shift)
    variables, mutable = {"params": params, **model_state}, list(model_state)
    (embeddings, cosines), model_state = model.apply(variables, batch["image"], train=True, mutable=mutable)
    if name == "arcface":
        logits = metric_learning.arcface_logits(cosines, batch["label"], margin, scale)
        terms, metrics = cross_entropy(logits, batch["label"])
    else:
        losses, weights = metric_learning.triplet(embeddings, batch["label"], margin)
        terms, metrics = weighted({"loss": losses, "within": losses > 0}, weights)
    return terms, (metrics, model_state)


def predict(model: Any, variables: Any, inputs: Any) -> dict:
    """{"image": f32[B, Y, X, C] in 0..1} -> {"embedding": f32[B, D]}, of norm 1: two pictures' cosine is their dot product."""
    return {"embedding": model.apply(variables, inputs["image"])[0].astype(jnp.float32)}


def explained(e: Experiment, variables: Any, inputs: Any, *, other: Any = None) -> targets.Target:
    """The cosine of two pictures: in each, what makes it like the other, whose embedding is held fixed.

    Stylianou et al. 2019 (1901.00536) ask for both maps of a pair.
    """
    if other is None:
        raise UserError(f"{e.cfg.name} explains what makes two pictures alike: give the second by --with=FILE")
    images = jnp.concatenate([inputs["image"], other["image"]])

    def score(variables: Any, changed: jax.Array) -> jax.Array:
        fixed, embeddings = (e.predictor.fn(variables, {"image": x})["embedding"] for x in (images[::-1], changed))
        return (fixed * embeddings).sum(-1)

    facts = [f"cosine {float(score(variables, images)[0]):.4f}"]
    return targets.Target(score, images, "cosine", facts, ["the first picture", "the second picture"])


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """None: pairs are measured, by the evaluator."""
    return {}


def _check(options: dict, shift: int) -> None:
    name, margin, scale = (options[key] for key in ("name", "margin", "scale"))
    if name not in LOSSES:
        raise UserError(f"loss.name = {name!r}{nearest(str(name), LOSSES)}")
    if not margin > 0 or name == "arcface" and not (margin < 1.57 and scale > 0):
        raise UserError(
            f"loss.margin = {margin}, loss.scale = {scale}: above 0; arcface's margin is an angle below pi / 2"
        )
    if shift < 0:
        raise UserError(f"shift = {shift}: at least 0 pixels")


if __name__ == "__main__":
    launch.main(train)

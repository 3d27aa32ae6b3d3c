"""Restoration: a picture from a damaged one, small or with a part hidden."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.restoration import model as models
from experiments.restoration.data import Restoration
from experiments.restoration.evaluation import Evaluation
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums, pair
from research.evals import image_restoration as evals
from research.interpret import targets
from research.nn.from_config import choose, from_config
from research.run.run import Run

LOSSES = {"l1": jnp.abs, "l2": jnp.square}  # of a value's error


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    data = Restoration(cfg.data, cfg.damage, cfg.features, cfg.seed)
    model = from_config(models.Restorer, cfg.model)
    Y, X, C = data.shape
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, Y, X, C)), jnp.zeros((1, Y, X, 1))),
        loss=partial(loss, penalty=choose(LOSSES, cfg.loss.name, "loss.name")),
        predict=predict, batch_metrics=partial(batch_metrics, distance=data.features and data.distance),
        split_metrics=split_metrics, rule_sets=models.SHARDING, evaluator=Evaluation(partial(predict, model), data),
        explained=explained,
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


def loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array, *, penalty: Any) -> tuple:
    """A batch as `Damaged` has it -> the term of the hidden pixels' errors, metrics."""
    del key
    restored = model.apply({"params": params}, batch["estimate"], batch["hidden"]).astype(jnp.float32)
    errors = penalty(restored - batch["image"]).mean(-1)
    total, weight = pair(errors, batch["hidden"][..., 0].astype(jnp.float32))
    return {"loss": (total, weight, 1.0)}, ({"loss": (total, weight)}, model_state)


def predict(model: Any, variables: Any, inputs: Any) -> dict:
    """{"estimate": f32[B, Y, X, C], "hidden": f32[B, Y, X, 1]} -> {"image": f32[B, Y, X, C] in 0..1}."""
    restored = model.apply(variables, inputs["estimate"], inputs["hidden"]).astype(jnp.float32)
    return {"image": jnp.clip(restored, 0, 1)}


def explained(e: Experiment, variables: Any, inputs: Any, *, at: tuple[int, int] | None = None) -> targets.Target:
    """One restored pixel, by default the middle one, as the mean of its channels: what of the estimate it was made of.

    Gu & Dong 2021 (2011.11107) ask this of super-resolution.
    """
    Y, X = inputs["estimate"].shape[1:3]
    row, column = targets.pixel(at or (Y // 2, X // 2), (Y, X))

    def score(variables: Any, estimate: jax.Array) -> jax.Array:
        restored = e.model.apply(variables, estimate, inputs["hidden"]).astype(jnp.float32)
        return restored[:, row, column].mean(-1)

    value = float(score(variables, inputs["estimate"])[0])
    known = "" if inputs["hidden"][0, row, column, 0] else "; it was known, and is kept"
    fact = f"restored pixel {row},{column}: {value:.4f}{known}"
    return targets.Target(score, inputs["estimate"], "pixel", [fact], [fact], features="^body$")


def batch_metrics(outputs: Any, batch: Any, distance: Callable | None = None) -> MetricSums:
    """-> the squared error of the hidden pixels, by value; by picture `distance`, and SSIM if its window is no larger."""
    restored, image = outputs["image"], batch["image"].astype(jnp.float32)
    weights = batch["mask"][:, None, None] * batch["hidden"][..., 0].astype(jnp.float32)
    sums = {"squared_error": pair(jnp.square(restored - image).mean(-1), weights)}
    if min(image.shape[1:3]) >= evals.WINDOW:
        sums["ssim"] = pair(evals.ssim(restored, image), batch["mask"])
    if distance:
        sums["feature_distance"] = pair(distance(restored, image, batch["hidden"]), batch["mask"])
    return sums


def split_metrics(means: dict[str, float]) -> dict[str, float]:
    """-> PSNR in dB, of all hidden pixels of the split together: a flat picture's own PSNR would have no bound."""
    return {**means, "psnr": evals.psnr(means["squared_error"])}


if __name__ == "__main__":
    launch.main(train)

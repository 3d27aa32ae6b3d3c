"""Style transfer: a network that paints any picture in the style of one."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from experiments.style_transfer import model as models
from experiments.style_transfer import objective as objectives
from experiments.style_transfer.data import Pictures
from experiments.style_transfer.objective import Objective
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Evaluated, Experiment
from research.core.metrics import MetricSums, pair
from research.evals import images
from research.interpret import targets
from research.nn.from_config import from_config
from research.run.run import Run

SHOWN = 8  # pictures of a sample


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    style = objectives.picture(cfg.style.path, cfg.style.size)
    objective = Objective(cfg.style.features, style, cfg.loss)
    data = Pictures(cfg.data, objective, cfg.seed)
    model = from_config(models.Stylist, cfg.model)
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, *data.shape)),),
        loss=partial(loss, objective=objective), predict=predict, batch_metrics=partial(batch_metrics, objective=objective),
        split_metrics=lambda means: {**means, "loss": objective.total(means)}, rule_sets=models.SHARDING,
        evaluator=partial(evaluate, jax.jit(partial(predict, model)), data), explained=explained,
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


def loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array, *, objective: Objective) -> tuple:
    """{"image": f32[B, Y, X, 3]} -> the terms of `Objective`, metrics."""
    del key
    terms = objective(model.apply({"params": params}, batch["image"]), batch["image"])
    sums = {name: pair(x, jnp.ones_like(x)) for name, x in terms.items()}
    weighted = {name: (*sums[name], objective.coefficients[name]) for name in sums}
    return weighted, ({**sums, "loss": pair(objective.total(terms), jnp.ones_like(terms["style"]))}, model_state)


def predict(model: Any, variables: Any, inputs: Any) -> dict:
    """{"image": f32[B, Y, X, 3]} -> the same restyled, in 0..1."""
    return {"image": model.apply(variables, inputs["image"]).astype(jnp.float32)}


def batch_metrics(outputs: Any, batch: Any, *, objective: Objective) -> MetricSums:
    """-> the terms of `Objective`."""
    terms = objective(outputs["image"], batch["image"].astype(jnp.float32))
    return {name: pair(x, batch["mask"]) for name, x in terms.items()}


def evaluate(
    predict: Callable, data: Pictures, state: Any, split: str, folder: Path, after_batch: Callable
) -> Evaluated:
    """The evaluator: of the first held-out split "restyled.png", rows of pictures and below each what becomes of them."""
    if split != next(iter(data.evals)):
        return Evaluated({})

    def draw(path: Path) -> None:
        source = data.evals[split].source
        rows = source.gather(np.linspace(0, len(source) - 1, SHOWN).astype(int), 0)
        after = np.asarray(predict(state.variables, rows)["image"])
        images.save_tiles(path, np.concatenate([rows["image"], after]), SHOWN)

    return Evaluated({}, {"restyled.png": draw})


def explained(e: Experiment, variables: Any, inputs: Any, *, at: tuple[int, int] | None = None) -> targets.Target:
    """One pixel of the restyled picture, by default the middle one, as the mean of its colours: what it was made of."""
    Y, X = inputs["image"].shape[1:3]
    row, column = targets.pixel(at or (Y // 2, X // 2), (Y, X))

    def score(variables: Any, image: jax.Array) -> jax.Array:
        return e.model.apply(variables, image).astype(jnp.float32)[:, row, column].mean(-1)

    fact = f"restyled pixel {row},{column}: {float(score(variables, inputs['image'])[0]):.4f}"
    return targets.Target(score, inputs["image"], "pixel", [fact], [fact], features="^block")


if __name__ == "__main__":
    launch.main(train)

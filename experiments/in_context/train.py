"""In-context learning: a transformer reads pairs (x, y) of a function that it has never seen, and predicts the next y."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from experiments.in_context import plot
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums, pair, reduce
from research.core.step import make_rngs
from research.data.synthetic.regression import InContextRegression
from research.losses.classification import weighted
from research.models.text.in_context import SHARDING, Regressor
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.files import write_json


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    cfg = cfg.in_steps(cfg.data.batch_size, cfg.data.batch_size)  # an epoch is a step; the curriculum has durations
    data = InContextRegression(cfg.data, cfg.seed)
    model = from_config(Regressor, cfg.model, max_points=data.points)
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, data.points, data.dims)), jnp.zeros((1, data.points))), loss=loss,
        predict=predict, batch_metrics=batch_metrics, rule_sets=SHARDING, split_metrics=partial(worst_ratio, data),
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
        with run.on_one_device(state) as local_state:
            curves = error_curves(e, local_state)
        run.sample("errors.json", partial(write_curves, curves))
        run.sample("errors.png", partial(plot.draw, curves, e.data.dims))
        return run.finish(state)


def loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"x": f32[B, n, d], "y", "point_mask": f32[B, n]} -> the mean squared error as a term, metrics."""
    y = model.apply({"params": params}, batch["x"], batch["y"], train=True, rngs=make_rngs(key, "dropout"))
    squared = jnp.square(y - batch["y"].astype(jnp.float32))
    terms, metrics = weighted({"loss": squared}, batch["point_mask"])
    return terms, (metrics, model_state)


def predict(model: Any, variables: Any, inputs: Any) -> dict:
    """{"x": f32[B, n, d], "y": f32[B, n]} -> {"y": f32[B, n]}, y_i as predicted before it was seen."""
    return {"y": model.apply(variables, inputs["x"], inputs["y"])}


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> loss (against y), error (against the noiseless y), and the error after i examples: squared, all of them."""
    error = jnp.square(outputs["y"] - batch["clean"])
    _, metrics = weighted({"loss": jnp.square(outputs["y"] - batch["y"]), "error": error}, batch["mask"])
    return {**metrics, **{_after(i): pair(error[:, i], batch["mask"]) for i in range(error.shape[1])}}


def _after(examples: int) -> str:
    return f"error_{examples:02d}"


def worst_ratio(data: InContextRegression, values: dict[str, float]) -> dict[str, float]:
    """A split's means, with the largest ratio of error to least squares' error over the numbers of examples above d.

    Without noise there is none: least squares does not err there.
    """
    if not data.noise or data.points <= data.dims + 1:
        return values
    exact = data.errors["least squares"]
    return values | {"worst_ratio": max(values[_after(i)] / exact[i] for i in range(data.dims + 1, data.points))}


def error_curves(e: Experiment, state: Any) -> dict[str, np.ndarray]:
    """Squared error after 0..n-1 examples, f64[n], of the model and of the predictors that know the task."""
    batches = e.evals["valid"]
    means = reduce(jax.device_get(e.eval_step(state, batches.batch(i))) for i in range(len(batches)))
    return {"transformer": np.array([means[_after(i)] for i in range(e.data.points)]), **e.data.errors}


def write_curves(curves: dict[str, np.ndarray], file: Path) -> None:
    """As JSON, six digits a number."""
    write_json(file, {name: [float(f"{value:.6g}") for value in curve] for name, curve in curves.items()})


if __name__ == "__main__":
    launch.main(train)

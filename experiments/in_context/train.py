"""In-context learning: a transformer reads pairs (x, y) of a function that it has never seen, and says the next y."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from experiments.in_context import figure
from research.core import mesh, optim
from research.core.config import track_reads
from research.core.experiment import Experiment, Predictor
from research.core.metrics import MetricSums, pair
from research.core.step import make_eval_step, make_rngs, make_train_step, options
from research.data.pipeline import Arrays, EvalBatches, TrainBatches
from research.data.synthetic import regression
from research.evals import in_context as baselines
from research.interop import weights
from research.losses.classification import weighted
from research.models.text.in_context import SHARDING, Regressor
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError
from research.util.files import write_json


def build(cfg: Any) -> Experiment:
    """Config -> prompts, model, optimiser and steps."""
    cfg = track_reads(cfg)
    cfg = cfg.in_steps(cfg.data.batch_size, cfg.data.batch_size)
    data = cfg.data
    ramps = {k: regression.Ramp(data[f"{k}_start"], data[k], data[f"{k}_by"], data[f"{k}_every"]) for k in RAMPS}
    source = regression.Prompts(**ramps, noise=data.noise, batch_size=data.batch_size, seed=cfg.seed)
    held_out = regression.held_out(source, data.eval_size)
    model = from_config(Regressor, cfg.model, max_points=data.points)
    tx = optim.make(cfg.optim, cfg.num_steps)
    known = others(held_out, data.noise)
    example = jnp.zeros((1, data.points, data.dims)), jnp.zeros((1, data.points))
    shapes = {"x": (("b", "n", data.dims), "float32"), "y": (("b", "n"), "float32")}
    return Experiment(
        cfg=cfg,
        train=TrainBatches(source, data.batch_size, cfg.seed),
        evals={"valid": EvalBatches(Arrays(held_out), data.eval_batch_size)},
        init_fn=lambda key: model.init(key, *example),
        load_pretrained=weights.pretrained(cfg.pretrained, model),
        tx=tx,
        train_step=make_train_step(partial(loss, model), tx, **options(cfg)),
        eval_step=make_eval_step(partial(predict, model), batch_metrics, cfg.dtype),
        split_metrics=partial(compare, known["least squares"], data),
        predictor=Predictor(
            partial(predict, model), shapes, partial(encode, cfg), decode, read, [f"n <= {data.points}"]
        ),
        rules=mesh.resolve(cfg.rules, SHARDING),
        sharding=SHARDING,
        ema=cfg.optim.ema,
        model=model,
        data=known,
    )


RAMPS = ("dims", "points")


def train(cfg: Any, workdir: str | Path, **how: Any) -> Any:
    """Trains to `cfg.num_steps`, or goes on there. Returns the final TrainState."""
    e = build(cfg)
    with Run(e.cfg, workdir, **how) as run:
        state = run.start(e)
        # Not least squares: where there are as many noisy examples as dimensions its expected error is infinite.
        known = {name: float(np.mean(errors)) for name, errors in e.data.items() if name != "least squares"}
        run.baseline("valid/error", known)

        for _, batch in run.steps(e.train):
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            for split, values in run.evaluate(state):
                run.log(split, values)
            state = run.save(state)

        with run.on_one_device(state) as local_state:
            run.sample("errors.json", partial(write, e, local_state))
            run.sample("errors.png", partial(write, e, local_state))
        return run.finish(state)


def loss(model: Regressor, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"x": f32[B, n, d], "y", "point_mask": f32[B, n]} -> mean squared error, metrics."""
    y = model.apply({"params": params}, batch["x"], batch["y"], train=True, rngs=make_rngs(key, "dropout"))
    squared = jnp.square(y - batch["y"].astype(jnp.float32))
    scalar, metrics = weighted({"loss": squared}, batch["point_mask"])
    return scalar, (metrics, model_state)


def predict(model: Regressor, variables: Any, inputs: Any) -> dict:
    """{"x": f32[B, n, d], "y": f32[B, n]} -> {"y": f32[B, n]}, y_i as predicted before it was seen."""
    return {"y": model.apply(variables, inputs["x"], inputs["y"])}


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> loss (against y), error (against the noiseless y), and the error after i examples: squared, all of them."""
    error = jnp.square(outputs["y"] - batch["clean"])
    _, pairs = weighted({"loss": jnp.square(outputs["y"] - batch["y"]), "error": error}, batch["mask"])
    return {**pairs, **{_after(i): pair(error[:, i], batch["mask"]) for i in range(error.shape[1])}}


def _after(examples: int) -> str:
    return f"error_{examples:02d}"


def others(held_out: dict, noise: float) -> dict[str, np.ndarray]:
    """Squared error against the noiseless y, by number of examples f64[n], of predictors that know the task."""
    x, y = held_out["x"], held_out["y"]
    said = {
        "least squares": baselines.least_squares(x, y),
        "ridge": baselines.ridge(x, y, noise**2) if noise else None,
        "averaging": baselines.averaging(x, y),
        "3 nearest": baselines.nearest_neighbours(x, y),
        "always 0": np.zeros(y.shape),
    }
    return {k: np.square(v - held_out["clean"]).mean(0) for k, v in said.items() if v is not None}


def compare(exact: np.ndarray, data: Any, values: dict[str, float]) -> dict[str, float]:
    """With `worst_ratio`: the worst of error / least squares' error, `exact`, over the numbers of examples above d, where least
    squares errs at all.
    """
    past = range(data.dims + 1, len(exact))
    ratios = [values[_after(i)] / exact[i] for i in past if data.noise]
    return values | ({"worst_ratio": max(ratios)} if ratios else {})


def write(e: Experiment, state: Any, file: Path) -> None:
    """The curves, error by number of examples, as JSON or as a picture: what the suffix says."""
    sweep = e.evals["valid"]
    rows = [jax.device_get(e.eval_step(state, sweep.batch(i))) for i in range(len(sweep))]
    sums = [[sum(float(row[_after(i)][j]) for row in rows) for j in (0, 1)] for i in range(e.cfg.data.points)]
    curves = {"transformer": np.array([s / w for s, w in sums]), **e.data}
    if file.suffix == ".json":
        rounded = {name: [float(f"{v:.6g}") for v in curve] for name, curve in curves.items()}
        write_json(file, rounded)
    else:
        figure.draw(curves, e.cfg.data.dims, file)


def read(file: Path) -> np.ndarray:
    """A CSV of examples, d numbers and y a line, y left empty on the last -> f32[n, d + 1]."""
    try:
        return np.genfromtxt(file, delimiter=",", dtype=np.float32, ndmin=2)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file} as a CSV: {' '.join(str(error).split())}") from None


def encode(cfg: Any, value: Any) -> dict:
    """Examples f32[n, d + 1], each d numbers and y, the last y NaN -> x f32[1, n, d], y f32[1, n]."""
    table = np.asarray(value, np.float32)
    d, n = cfg.data.dims, cfg.data.points
    if table.ndim != 2 or table.shape[1] != d + 1 or not 1 <= len(table) <= n:
        raise UserError(f"the table is {' x '.join(map(str, table.shape))}: want 1 to {n} lines of {d} numbers and y")
    if np.isnan(table[:-1]).any() or np.isnan(table[-1, :-1]).any():
        raise UserError("a number is missing; only the last line's y may be")
    return {"x": table[None, :, :-1], "y": np.nan_to_num(table[None, :, -1])}


def decode(outputs: Any) -> dict:
    """-> the last line's y."""
    return {"y": round(float(outputs["y"][0, -1]), 4)}


if __name__ == "__main__":
    launch.main(train)

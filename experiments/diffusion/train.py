"""Denoising diffusion: pictures from noise, by a network that learns to take noise away."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.diffusion import data as datasets
from experiments.diffusion import model as models
from experiments.diffusion import process as processes
from experiments.diffusion.evaluation import Evaluation
from experiments.diffusion.process import Process
from experiments.diffusion.sampler import Sampler
from research.algorithms.sample_metrics import METRICS
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment, Predictor
from research.core.metrics import MetricSums
from research.core.step import make_rngs
from research.data import draws
from research.data.images import labelled
from research.generation import diffusion
from research.losses.classification import weighted
from research.losses.diffusion import squared_error
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError

EVAL_SEED, EVAL_TIMES = 0, 8  # in evaluation a picture is noised at so many times, with the same noise in every run


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    process = processes.make(cfg.diffusion)
    images, conditional = labelled.load(cfg.data), cfg.model.conditional
    data = datasets.Pictures(images, cfg.data, cfg.seed, conditional, process.linear_denoiser)
    model = from_config(models.UNet, cfg.model, num_classes=len(data.classes))
    if not 0 <= cfg.drop_class < 1:
        raise UserError(f"drop_class = {cfg.drop_class}: from 0 to below 1")
    sampler = Sampler(model, process, data.shape, cfg.sample)
    evaluation = Evaluation(sampler, data, cfg.sample.measured)
    example = (jnp.zeros((1, *data.shape)), jnp.zeros(1), jnp.zeros(1, jnp.int32))
    return supervised(
        cfg, data, model, example=example, loss=partial(loss, process=process, drop_class=cfg.drop_class, seed=cfg.seed),
        predict=lambda model, variables, inputs: sampler.predict(variables, inputs),
        predictor=Predictor(sampler.predict, data.codec),
        eval_predict=partial(errors_at_times, process=process), batch_metrics=batch_metrics,
        rule_sets=models.SHARDING, evaluator=evaluation, judged=METRICS, at_end=evaluation.at_end, sample=sample,
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
        for split, values in run.evaluate_at_end(state):
            run.log(split, values)
        return run.finish(state)


def loss(
    model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array, *, process: Process, drop_class: float, seed: int
) -> tuple:  # fmt: skip
    """{"image": f32[B, Y, X, C], "label": i32[B], "draw": i32[B, 2]} -> the term of squared error, metrics.

    One time is drawn for each picture. With probability `drop_class` its class is left out, so that guidance has a model without.
    """
    keys = draws.keys(batch["draw"], seed, "diffusion")
    dropped = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 2)))(keys) < drop_class
    label = jnp.where(dropped, model.num_classes, batch["label"])
    rngs = make_rngs(key, "dropout")
    apply = partial(model.apply, {"params": params}, label=label, train=True, rngs=rngs)
    terms, metrics = weighted({"loss": errors(apply, batch["image"], keys, process)})
    return terms, (metrics, model_state)


def errors(apply: Any, image: jax.Array, keys: jax.Array, process: Process, part: Any = 0, parts: int = 1) -> jax.Array:
    """-> the weighted squared error of what `apply(noisy, time=)` predicts, f32[B].

    Each picture's key draws its noise and its time, from 1 to T, or from `part` of `parts` of these times.
    """
    u = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 0)))(keys)
    noise = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), image.shape[1:]))(keys)
    time = jnp.minimum(1 + jnp.floor(process.last * (part + u) / parts), process.last)
    signal = jnp.asarray(process.signal)[time.astype(jnp.int32)]
    picture = 2 * image.astype(jnp.float32) - 1
    noisy = diffusion.diffuse(picture, noise, signal).astype(image.dtype)
    prediction = apply(noisy, time=time / process.last)
    wanted = diffusion.target(picture, noise, signal, process.predicts)
    return process.weights(signal) * squared_error(prediction, wanted)


def errors_at_times(model: Any, variables: Any, batch: Any, *, process: Process) -> dict:
    """-> {"loss": f32[B]}, a picture's mean over one time in each of EVAL_TIMES parts; its class is given."""
    keys = draws.keys(batch["draw"], EVAL_SEED, "evaluation")
    apply = partial(model.apply, variables, label=batch["label"])

    def one(part: jax.Array) -> jax.Array:
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, part)
        return errors(apply, batch["image"], own, process, part, EVAL_TIMES)

    return {"loss": jax.lax.map(one, jnp.arange(EVAL_TIMES)).mean(0)}


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> the loss, by picture."""
    return weighted(outputs, batch["mask"])[1]


def sample(
    e: Experiment, state: Any, key: jax.Array, out: Path, *, steps: int | None = None, eta: float | None = None,
    guidance: float | None = None, label: str | None = None,
) -> Iterator[str]:  # fmt: skip
    """Draws pictures with `key`, writes them to `out` and yields its path. Options that are None are the config's."""
    evaluation: Any = e.evaluator
    out.parent.mkdir(parents=True, exist_ok=True)
    evaluation.draw_samples(state, out, key, label, steps=steps, eta=eta, guidance=guidance)
    yield str(out)


if __name__ == "__main__":
    launch.main(train)

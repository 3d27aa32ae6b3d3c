"""Anomalies in videos: a network learns normal clips alone, and a frame is scored by how far it is from what was expected."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.video_anomaly import model as models
from experiments.video_anomaly.data import VideoAnomaly
from experiments.video_anomaly.evaluation import Evaluation
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment, Predictor
from research.core.metrics import MetricSums
from research.interpret import targets
from research.losses.classification import weighted
from research.nn.from_config import choose, from_config
from research.run.run import Run

MODELS = {"autoencoder": models.Autoencoder, "predictor": models.Predictor}


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    data = VideoAnomaly(cfg.data, cfg.seed)
    model = from_config(choose(MODELS, cfg.model.name), cfg.model)
    fn = partial(predict, model)
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, *data.shape)),), loss=loss, predict=predict,
        batch_metrics=batch_metrics,
        predictor=Predictor(fn, data.codec),
        rule_sets=models.SHARDING, evaluator=Evaluation(fn, data, cfg.data.eval_batch_size), judged=("frame_auc*", "clip_auc*"),
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


def expected(model: Any, variables: Any, clip: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Windows f[B, T, Y, X, C] -> their last S frames as the model expects them, f32[B, S, Y, X, C], and the errors of those.

    Errors f32[B, S] are means of squares over pixels. An autoencoder expects all frames, S = T, and a predictor the last.
    """
    frames = model.apply(variables, clip).astype(jnp.float32)
    return frames, jnp.square(frames - clip[:, -frames.shape[1] :]).mean((2, 3, 4))


def loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"clip": f32[B, T, Y, X, C]} -> the term of squared error, a mean over frames and pixels; metrics."""
    del key  # a window's start is the data's
    _, errors = expected(model, {"params": params}, batch["clip"])
    terms, metrics = weighted({"loss": errors.mean(1)})
    return terms, (metrics, model_state)


def predict(model: Any, variables: Any, inputs: Any) -> dict:
    """{"clip": f32[B, T, Y, X, C] in 0..1} -> of the last frame {"expected": f32[B, Y, X, C], "error": f32[B], squared}; "loss":
    f32[B], the error of all expected frames."""
    frames, errors = expected(model, variables, inputs["clip"])
    return {"expected": frames[:, -1], "error": errors[:, -1], "loss": errors.mean(1)}


def explained(e: Experiment, variables: Any, inputs: Any) -> targets.Target:
    """The squared error of the window's last frame, with a map for each frame."""

    def score(variables: Any, clip: jax.Array) -> jax.Array:
        return e.predictor.fn(variables, {"clip": clip})["error"]

    clip = inputs["clip"]
    fact = f"squared error of the last frame: {float(score(variables, clip)[0]):.4g}"
    return targets.Target(score, clip, "error", [fact], [f"frame {i} of the window" for i in range(clip.shape[1])])


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> the loss, by window."""
    return weighted({"loss": outputs["loss"]}, batch["mask"])[1]


if __name__ == "__main__":
    launch.main(train)

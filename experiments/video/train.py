"""Action recognition: a clip, one label out of N."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.video import model as models
from experiments.video.data import VideoClassification
from experiments.video.evaluation import Evaluation
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums
from research.interpret import targets
from research.losses.classification import cross_entropy
from research.nn.from_config import from_config
from research.run.run import Run


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    data = VideoClassification(cfg.data, cfg.seed)
    model = from_config(models.VideoResNet, cfg.model, num_classes=len(data.classes))
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, *data.shape)),), loss=loss, predict=predict,
        batch_metrics=batch_metrics, rule_sets=models.SHARDING, evaluator=Evaluation(partial(predict, model), data),
        whole_batch="batch statistics are of the whole batch", explained=explained,
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


def loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"clip": f32[B, T, Y, X, C], "label": i32[B]} -> the term in nats a window, metrics, batch statistics."""
    del key  # a window's start is the data's
    variables, mutable = {"params": params, **model_state}, list(model_state)
    logits, model_state = model.apply(variables, batch["clip"], train=True, mutable=mutable)
    terms, metrics = cross_entropy(logits, batch["label"])
    return terms, (metrics, model_state)


def predict(model: Any, variables: Any, inputs: Any) -> dict:
    """{"clip": f32[B, V, T, Y, X, C] in 0..1} -> {"probabilities", "logits": f32[B, N]}.

    Probabilities are means over the V windows, and logits the logarithms of those.
    """
    clip = inputs["clip"]
    B, V, *window = clip.shape
    logits = model.apply(variables, clip.reshape(B * V, *window)).astype(jnp.float32)
    probabilities = jax.nn.softmax(logits).reshape(B, V, -1).mean(1)
    return {"probabilities": probabilities, "logits": jnp.log(jnp.maximum(probabilities, jnp.finfo(jnp.float32).tiny))}


def explained(e: Experiment, variables: Any, inputs: Any, *, class_name: str | None = None) -> targets.Target:
    """The logit of a class, by default the top-1's, in the clip's middle window, with a map for each of its frames."""

    def logits(variables: Any, window: jax.Array) -> jax.Array:
        return e.model.apply(variables, window).astype(jnp.float32)

    window = inputs["clip"][:, inputs["clip"].shape[1] // 2]
    names = [f"frame {i} of the window" for i in range(window.shape[1])]
    return targets.class_logit(logits, variables, window, e.data.classes, class_name, names)


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> loss (nats) and accuracy, by clip."""
    return cross_entropy(outputs["logits"], batch["label"], batch["mask"])[1]


if __name__ == "__main__":
    launch.main(train)

"""Token labelling: a BERT gives each word of a text one label out of N."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums
from research.core.step import make_rngs
from research.data.text import token_labels
from research.evals import f1
from research.losses.language import cross_entropy
from research.models.text import bert
from research.nn.from_config import from_config
from research.run.run import Run


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    data = token_labels.load(cfg.data, cfg.seed)
    sizes = {"vocab_size": data.rows.tokenizer.size, "max_length": data.rows.length}
    model = bert.BertForTokenLabels(from_config(bert.Encoder, cfg.model, **sizes), len(data.classes))
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, 1), jnp.int32),), loss=loss, predict=predict,
        eval_predict=predict_logits, batch_metrics=partial(batch_metrics, classes=data.classes),
        rule_sets=bert.SHARDING, split_metrics=f1.add_macro,
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
    """{"tokens", "labels": i32[B, T], "length": i32[B]} -> the term in nats a word, metrics."""
    rngs = make_rngs(key, "dropout")
    logits = model.apply({"params": params}, batch["tokens"], inside(batch), train=True, rngs=rngs)
    terms, metrics = cross_entropy(logits, *targets_and_mask(batch))
    return terms, (metrics, model_state)


def inside(batch: Any) -> jax.Array:
    """Where a row is no padding: bool[B, T]."""
    return jnp.arange(batch["tokens"].shape[1]) < batch["length"][:, None]


def targets_and_mask(batch: Any) -> tuple[jax.Array, jax.Array]:
    """Labels i32[B, T], 0 where there is none, and a mask f32[B, T] of where there is one."""
    labelled = batch["labels"] != token_labels.NONE
    return jnp.where(labelled, batch["labels"], 0), labelled.astype(jnp.float32)


def predict_logits(model: Any, variables: Any, inputs: Any) -> dict:
    """{"tokens": i32[B, T], "length": i32[B]} -> {"logits": f32[B, T, N]}."""
    return {"logits": model.apply(variables, inputs["tokens"], inside(inputs))}


def predict(model: Any, variables: Any, inputs: Any) -> dict:
    """The same with "starts" i32[B, T], 1 at the first piece of each word -> "probabilities" f32[B, T, N], and the inputs."""
    probabilities = jax.nn.softmax(predict_logits(model, variables, inputs)["logits"])
    return {"probabilities": probabilities, **{name: inputs[name] for name in ("tokens", "starts", "length")}}


def batch_metrics(outputs: Any, batch: Any, *, classes: Sequence[str]) -> MetricSums:
    """-> loss (nats), accuracy, and F1 of each class, 2 hits / (predicted + true), by word."""
    labels, mask = targets_and_mask(batch)
    mask = mask * batch["mask"][:, None]
    metrics = cross_entropy(outputs["logits"], labels, mask)[1]
    return {**metrics, **f1.by_class(outputs["logits"].argmax(-1), labels, mask, classes)}


if __name__ == "__main__":
    launch.main(train)

"""Token labelling: a BERT or a BiLSTM gives each word of a text one label out of N, with or without a CRF over them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from experiments.token_labelling import heads
from experiments.token_labelling import model as models
from experiments.token_labelling.heads import Head
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums, pair
from research.core.step import make_rngs
from research.data.text import token_labels
from research.evals import entities, f1
from research.run.run import Run


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    data = token_labels.load(cfg.data, cfg.seed, entities.score)
    sizes = {"vocab_size": data.rows.tokenizer.size, "max_length": data.rows.length, "num_classes": len(data.classes)}
    model, rule_sets = models.make(cfg.model, **sizes)
    head = heads.CRF if cfg.model.crf else heads.SOFTMAX
    spans = (data.spans.name, entities.tables(data.classes)) if data.spans else None
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, 1), jnp.int32),), loss=partial(loss, head), predict=partial(predict, head),
        eval_predict=predict_scores, batch_metrics=partial(batch_metrics, head, classes=data.classes, spans=spans),
        rule_sets=rule_sets, split_metrics=partial(split_metrics, spans=data.spans.name if data.spans else None),
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


def loss(head: Head, model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"tokens", "labels": i32[B, T], "length": i32[B]} -> the term in nats a word, metrics."""
    rngs = make_rngs(key, "dropout")
    scores = model.apply({"params": params}, batch["tokens"], inside(batch), train=True, rngs=rngs)
    terms, metrics = head.loss(scores, *targets_and_mask(batch))
    return terms, (metrics, model_state)


def inside(batch: Any) -> jax.Array:
    """Where a row is no padding: bool[B, T]."""
    return jnp.arange(batch["tokens"].shape[1]) < batch["length"][:, None]


def targets_and_mask(batch: Any) -> tuple[jax.Array, jax.Array]:
    """Labels i32[B, T], 0 where there is none, and a mask f32[B, T] of where there is one."""
    labelled = batch["labels"] != token_labels.NONE
    return jnp.where(labelled, batch["labels"], 0), labelled.astype(jnp.float32)


def predict_scores(model: Any, variables: Any, inputs: Any) -> dict:
    """{"tokens": i32[B, T], "length": i32[B]} -> {"scores"}: logits f32[B, T, N], of a CRF the chain beside them."""
    return {"scores": model.apply(variables, inputs["tokens"], inside(inputs))}


def predict(head: Head, model: Any, variables: Any, inputs: Any) -> dict:
    """The same with "starts" i32[B, T], 1 at the first piece of each word -> "labels" i32[B, T], which with a CRF are the best
    path, "probabilities" f32[B, T, N] of each word's label, with a CRF over all paths, and the inputs.
    """
    scores, starts = predict_scores(model, variables, inputs)["scores"], inputs["starts"].astype(jnp.float32)
    outputs = {"labels": head.best(scores, starts), "probabilities": head.probabilities(scores, starts)}
    return outputs | {name: inputs[name] for name in ("tokens", "starts", "length")}


def batch_metrics(
    head: Head, outputs: Any, batch: Any, *, classes: Sequence[str], spans: tuple[str, entities.Tables] | None = None
) -> MetricSums:
    """-> loss (nats), accuracy, and F1 of each class, 2 hits / (predicted + true), by word; precision, recall, F1 of spans."""
    labels, mask = targets_and_mask(batch)
    mask = mask * batch["mask"][:, None]
    best = head.best(outputs["scores"], mask)
    metrics = {**head.loss(outputs["scores"], labels, mask)[1], "accuracy": pair(best == labels, mask)}
    metrics |= f1.by_class(best, labels, mask, classes)
    if spans:
        name, tables = spans
        both, found, wanted = entities.counts(labels, best, mask > 0, tables)
        metrics |= {f"{name}_precision": (both, found), f"{name}_recall": (both, wanted)}
        metrics[f"{name}_f1"] = 2 * both, found + wanted
    return metrics


def split_metrics(means: dict[str, float], *, spans: str | None = None) -> dict[str, float]:
    """Adds "macro_f1", the mean over classes. Precision, recall and F1 of no spans are 0, as seqeval has them."""
    of_spans = {k: float(np.nan_to_num(v)) for k, v in means.items() if spans and k.startswith(f"{spans}_")}
    return f1.add_macro({**means, **of_spans})


if __name__ == "__main__":
    launch.main(train)

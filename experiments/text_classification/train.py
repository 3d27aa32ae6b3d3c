"""Text classification: a text, one label out of N."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums
from research.core.step import make_rngs
from research.data.text import classification
from research.evals import classifier_report, f1, kappa
from research.losses.classification import balanced_weights, cross_entropy
from research.models.text import bert, gpt, text_cnn, text_conv, text_ngrams, text_recurrent, text_transformer
from research.nn.from_config import choose, from_config
from research.run.run import Run
from research.util.errors import UserError, nearest


def _any_length(cls: Any) -> Callable:
    """Makes a module that has no table of positions."""
    return lambda group, max_length, **sizes: from_config(cls, group, **sizes)


# name -> (config group, vocab_size, num_classes, max_length -> module; sharding rules)
MODELS: dict[str, tuple[Callable, Any]] = {
    "recurrent": (_any_length(text_recurrent.TextRecurrent), text_recurrent.SHARDING),
    "cnn": (_any_length(text_cnn.TextCNN), text_cnn.SHARDING),
    "conv": (partial(from_config, text_conv.TextConv), text_conv.SHARDING),
    "ngrams": (_any_length(text_ngrams.TextNGrams), text_ngrams.SHARDING),
    "bert": (text_transformer.make_bert, bert.SHARDING),
    "gpt": (text_transformer.make_gpt, gpt.SHARDING),
}


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    make_model, rule_sets = choose(MODELS, cfg.model.name)
    if cfg.threshold not in classifier_report.METRICS:
        raise UserError(f"threshold = {cfg.threshold!r}{nearest(cfg.threshold, classifier_report.METRICS)}")
    if cfg.get("class_weights") not in (None, "balanced"):
        raise UserError(f"class_weights = {cfg.class_weights!r}: 'balanced', or None for none")
    data = classification.load(cfg.data, cfg.seed)
    weights = balanced_weights(data.train.source.labels, len(data.classes)) if cfg.get("class_weights") else None
    classes = data.classes if cfg.get("macro_f1") else ()
    scores = kappa.scores_of(data.classes) if cfg.get("quadratic_kappa") else None
    (tokenizer,), length = data.tokenizers, cfg.data.length
    if cfg.model.name == "bert" and "cls" not in tokenizer.special:
        raise UserError(
            "model.name = 'bert' reads the class token: set data.special to ('cls', 'sep'), or data.tokenizer=wordpiece"
        )
    return supervised(
        cfg, data,
        make_model(cfg.model, vocab_size=tokenizer.size, num_classes=len(data.classes), max_length=length),
        example=(jnp.ones((1, length), jnp.int32), jnp.ones(1, jnp.int32)), loss=partial(loss, class_weights=weights),
        predict=predict, batch_metrics=partial(batch_metrics, classes=classes, scores=scores), rule_sets=rule_sets,
        split_metrics=partial(split_metrics, macro_f1=bool(classes), quadratic_kappa=scores is not None),
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
        state = run.finish(state)
        with run.on_one_device(run.best_state(state)) as local_state:
            report(e, run, local_state)
        return state


def report(e: Experiment, run: Run, state: Any) -> None:
    """Writes scores and pictures of every split under samples/, with a threshold chosen on validation."""
    scored = {split: probabilities_and_labels(e, state, batches) for split, batches in e.evals.items()}
    title = f"{e.cfg.name or run.dir.name}, step {int(state.step):,}"
    classifier_report.write(run.sample, scored, e.data.classes, title, e.cfg.threshold)


def probabilities_and_labels(e: Experiment, state: Any, batches: Any) -> tuple[np.ndarray, np.ndarray]:
    """f64[n, N] and i32[n] of every example of one pass."""
    fn, rows = jax.jit(e.predictor.fn), []
    for i in range(len(batches)):
        batch = batches.batch(i)
        real = batch["mask"] > 0
        outputs = fn(state.variables, {name: batch[name] for name in e.predictor.codec.inputs})
        rows.append((np.asarray(outputs["probabilities"], np.float64)[real], batch["label"][real]))
    probabilities, labels = map(np.concatenate, zip(*rows, strict=True))
    return probabilities, labels


def loss(
    model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array, class_weights: np.ndarray | None = None
) -> tuple:
    """{"tokens": i32[B, T], "length", "label": i32[B]} -> the term in nats a text, metrics.

    `class_weights` f32[N] weigh the texts of the term and not of the metrics.
    """
    rngs = make_rngs(key, "dropout")
    logits = model.apply({"params": params}, batch["tokens"], batch["length"], train=True, rngs=rngs)
    weights = None if class_weights is None else jnp.asarray(class_weights)
    terms, metrics = cross_entropy(logits, batch["label"], batch.get("mask"), weights)
    return terms, (metrics, model_state)


def predict(model: Any, variables: Any, inputs: Any) -> dict:
    """{"tokens": i32[B, T], "length": i32[B]} -> {"logits", "probabilities": f32[B, N]}."""
    logits = model.apply(variables, inputs["tokens"], inputs["length"])
    return {"logits": logits, "probabilities": jax.nn.softmax(logits)}


def batch_metrics(
    outputs: Any, batch: Any, *, classes: Sequence[str] = (), scores: np.ndarray | None = None
) -> MetricSums:
    """-> loss (nats) and accuracy, by text; F1 of each of `classes`; of classes that are `scores`, what kappa needs."""
    counted = outputs["logits"].argmax(-1), batch["label"], batch["mask"]
    metrics = cross_entropy(outputs["logits"], *counted[1:])[1]
    agreement = {} if scores is None else kappa.sums(*counted, scores)
    return {**metrics, **f1.by_class(*counted, classes), **agreement}


def split_metrics(means: dict[str, float], *, macro_f1: bool, quadratic_kappa: bool) -> dict[str, float]:
    """A split's means, with what derives from the sums of `batch_metrics`."""
    means = f1.add_macro(means) if macro_f1 else means
    return kappa.add_quadratic(means) if quadratic_kappa else means


if __name__ == "__main__":
    launch.main(train)

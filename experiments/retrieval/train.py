"""Retrieval: a question, many passages, and the one that holds its answer."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.retrieval.retriever import Retriever, bm25
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Evaluated, Experiment
from research.core.metrics import MetricSums
from research.core.step import make_rngs
from research.data.text import pairs
from research.losses.contrastive import in_batch_negatives
from research.models.text import bert, dual_encoder
from research.models.text.dual_encoder import DualEncoder
from research.nn.from_config import choose, from_config
from research.run.run import Run

INPUTS = ("question", "question_mask", "passage", "passage_mask")


def _bag(group: dict[str, Any], data: pairs.Retrieval, name: str) -> dual_encoder.BagEncoder:
    return from_config(dual_encoder.BagEncoder, group, vocab_size=data.tokenizers[0].size).clone(name=name)


def _bert(group: dict[str, Any], data: pairs.Retrieval, name: str) -> dual_encoder.BertEncoder:
    max_length = group.pop("max_length") or max(rows.length for rows in data.token_rows.values())
    encoder = from_config(bert.Encoder, group, vocab_size=data.tokenizers[0].size, max_length=max_length)
    return dual_encoder.BertEncoder(encoder, name=name)


# name -> (encoder of questions or passages, sharding rules)
MODELS: dict[str, tuple] = {"bag": (_bag, dual_encoder.SHARDING), "bert": (_bert, {"fsdp": bert.SHARDING["fsdp"]})}


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    make_encoder, rule_sets = choose(MODELS, cfg.model.name)
    data = pairs.load(cfg.data, cfg.seed, rank=bm25)

    def encoder(name: str) -> Any:
        group = {key: value for key, value in cfg.model.items() if key != "shared"}
        return make_encoder(group, data, name)

    model = DualEncoder(encoder, cfg.model.shared)
    retriever = Retriever(model, data, cfg.data.eval_batch_size)
    return supervised(
        cfg, data, model,
        example={name: jnp.zeros((1, *shape[1:]), dtype) for name, (shape, dtype) in data.codec.inputs.items()}, loss=loss,
        predict=predict, batch_metrics=batch_metrics, rule_sets=rule_sets,
        evaluator=partial(evaluate, retriever, data), judged=("recall_at_*", "mrr"),
        whole_batch="a question's negatives are the passages of the whole batch", ask=retriever,
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


def loss(model: DualEncoder, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"question": i32[B, Q], "passage": i32[B, T], their masks, "number": i32[B]} -> the term in nats a question, metrics."""
    queries, passages = model.apply({"params": params}, **_inputs(batch), train=True, rngs=make_rngs(key, "dropout"))
    terms, metrics = in_batch_negatives(queries, passages, batch["number"])
    return terms, (metrics, model_state)


def predict(model: DualEncoder, variables: Any, inputs: Any) -> dict:
    """-> {"question", "passage": f32[B, D], "score": f32[B]}: the two vectors of each row, and their inner product."""
    queries, passages = model.apply(variables, **_inputs(inputs))
    return {"question": queries, "passage": passages, "score": (queries * passages).sum(-1)}


def _inputs(batch: Mapping[str, Any]) -> dict:
    return {name: batch[name] for name in INPUTS}


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> loss (nats) and accuracy, each question among its batch's passages: they grow harder with data.eval_batch_size."""
    return in_batch_negatives(outputs["question"], outputs["passage"], batch["number"], batch["mask"])[1]


def evaluate(
    retriever: Retriever, data: pairs.Retrieval, state: Any, split: str, folder: Path, after_batch: Any
) -> Evaluated:
    """{"recall_at_1", "recall_at_5", "recall_at_20", "mrr"} of a split's questions over all its passages."""
    return Evaluated(retriever.score(state.variables, data.evals[split].source, after_batch))


if __name__ == "__main__":
    launch.main(train)

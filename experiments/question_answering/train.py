"""Question answering: a question, a passage, and the span of the passage that answers it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.question_answering.codec import AnswerSpan
from experiments.question_answering.reader import Reader
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Evaluated, Experiment
from research.core.metrics import MetricSums
from research.core.step import make_rngs
from research.data.text import question_answering, questions
from research.data.text.question_answering import QuestionAnswering
from research.data.text.spans import Apart, Joined
from research.evals import squad
from research.losses.spans import span_cross_entropy
from research.models.text import bert, bidaf
from research.models.text.bert_reader import BertReader
from research.nn.from_config import choose, from_config
from research.run.run import Run


def _bidaf(group: Mapping[str, Any], layout: Apart) -> tuple[bidaf.BiDAF, bool]:
    model = from_config(bidaf.BiDAF, group, vocab_size=layout.tokenizer.size, num_chars=layout.num_chars)
    return model, model.null


def _bert(group: Mapping[str, Any], layout: Joined) -> tuple[BertReader, bool]:
    group = {**group}
    max_length = group.pop("max_length") or layout.length
    encoder = from_config(bert.Encoder, group, vocab_size=layout.tokenizer.size, max_length=max_length)
    return BertReader(encoder), True  # [CLS] stands for no answer


# name -> (layout of a question and a passage, (module, whether there may be no answer), sharding rules)
MODELS: dict[str, tuple] = {
    "bidaf": (question_answering.apart, _bidaf, bidaf.SHARDING),
    "bert": (question_answering.joined, _bert, bert.SHARDING),
}


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    make_layout, make_model, rule_sets = choose(MODELS, cfg.model.name)
    corpus = questions.load(cfg.data)
    layout = make_layout(cfg.data, corpus.train)
    model, no_answer = make_model(cfg.model, layout)
    codec = AnswerSpan(layout, cfg.answer.max_length)
    data = QuestionAnswering(corpus, layout, cfg.data, cfg.seed, no_answer=no_answer, codec=codec)
    reader = Reader(partial(predict, model), data, cfg.data.eval_batch_size, no_answer, cfg.answer)
    return supervised(
        cfg, data, model,
        example={name: jnp.zeros((1, *shape[1:]), dtype) for name, (shape, dtype) in data.codec.inputs.items()}, loss=loss,
        predict=predict, batch_metrics=partial(batch_metrics, no_answer=no_answer), rule_sets=rule_sets,
        evaluator=partial(evaluate, reader, data), judged=squad.METRICS, ask=reader,
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
    """{...the layout's inputs, "start", "end": i32[B]} -> the term in nats a place, metrics."""
    start, end = model.apply({"params": params}, **_inputs(batch), train=True, rngs=make_rngs(key, "dropout"))
    terms, metrics = span_cross_entropy(start, end, batch["start"], batch["end"])
    return terms, (metrics, model_state)


def predict(model: Any, variables: Any, inputs: Any) -> dict:
    """The layout's inputs -> {"start", "end": f32[B, L]}, logits of an answer's first and last place; place 0 is no answer."""
    start, end = model.apply(variables, **_inputs(inputs))
    return {"start": start, "end": end}


def _inputs(batch: Mapping[str, Any]) -> dict:
    return {name: array for name, array in batch.items() if name not in ("start", "end", "mask")}


def batch_metrics(outputs: Any, batch: Any, *, no_answer: bool) -> MetricSums:
    """-> loss (nats) and accuracy (both places right), by window: if a model cannot say no answer, by those with one."""
    mask = batch["mask"] if no_answer else batch["mask"] * (batch["start"] > 0)
    return span_cross_entropy(outputs["start"], outputs["end"], batch["start"], batch["end"], mask)[1]


def evaluate(
    reader: Reader, data: QuestionAnswering, state: Any, split: str, folder: Path, after_batch: Any
) -> Evaluated:
    """{"em", "f1"} of a split's questions, in percent: a question can have several windows, in several batches."""
    return Evaluated(reader.score(state.variables, data.evals[split].source, after_batch))


if __name__ == "__main__":
    launch.main(train)

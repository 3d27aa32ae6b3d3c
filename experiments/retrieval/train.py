"""Retrieval: a question, many passages, and the one that holds its answer."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from research.core import mesh, optim
from research.core.config import track_reads
from research.core.experiment import Evaluated, Experiment, Predictor
from research.core.metrics import MetricSums
from research.core.step import make_eval_step, make_rngs, make_train_step, options
from research.data import tokenizers, user_files
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.text import pairs, questions, spans
from research.evals import ranking
from research.interop import weights
from research.losses.contrastive import in_batch_negatives
from research.models.text import bert, dual_encoder
from research.models.text.bm25 import BM25
from research.models.text.dual_encoder import DualEncoder
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError, nearest

SHARDING: dict[str, Any] = {"bag": dual_encoder.SHARDING, "bert": {"fsdp": bert.SHARDING["fsdp"]}}
INPUTS = ("question", "question_mask", "passage", "passage_mask")


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    if cfg.model.name not in SHARDING:
        raise UserError(f"model.name = {cfg.model.name!r}{nearest(cfg.model.name, SHARDING)}")
    data = questions.load(cfg.data)
    words = {k: cfg.data[k] for k in ("vocab_size", "min_count", "lowercase")}
    tokenizer = tokenizers.make(cfg.data.tokenizer, spans.vocabulary_text(data.train), **words)
    asked, told = (pairs.Encoded(tokenizer, cfg.data[key], f"data.{key}") for key in ("question_length", "length"))
    train = TrainBatches(pairs.QuestionPassagePairs(data.train, asked, told), cfg.data.batch_size, cfg.seed)
    evals = {
        k: EvalBatches(pairs.QuestionPassagePairs(part, asked, told), cfg.data.eval_batch_size)
        for k, part in data.parts.items()
    }
    cfg = cfg.in_steps(train.epoch, train.batch_size)
    model = DualEncoder(partial(_encoder, cfg.model, cfg.data, tokenizer.size), cfg.model.shared)
    tx = optim.make(cfg.optim, cfg.num_steps)
    sizes = {"question": asked.length, "passage": told.length}
    inputs: dict[str, tuple] = {name: (("b", size), "int32") for name, size in sizes.items()}
    inputs |= {f"{name}_mask": (("b", size), "float32") for name, size in sizes.items()}
    rows = {name: jnp.zeros((1, *shape[1:]), kind) for name, (shape, kind) in inputs.items()}
    fn = partial(predict, model)
    retriever = Retriever(model, asked, told, cfg.data.eval_batch_size)
    return Experiment(
        cfg=cfg,
        train=train,
        evals=evals,
        init_fn=lambda key: model.init(key, **rows),
        load_pretrained=weights.pretrained(cfg.pretrained, model, tokenizer),
        tx=tx,
        train_step=make_train_step(partial(loss, model), tx, **options(cfg)),
        eval_step=make_eval_step(fn, batch_metrics, cfg.dtype),
        evaluator=partial(evaluate, retriever, evals),
        predictor=Predictor(fn, inputs, partial(encode, asked, told), decode, user_files.read_pair),
        rules=mesh.resolve(cfg.rules, SHARDING[cfg.model.name]),
        sharding=SHARDING[cfg.model.name],
        ema=cfg.optim.ema,
        model=model,
        data=data,
        tokenizer=tokenizer,
        ask=retriever,
    )


def train(cfg: Any, workdir: str | Path, **how: Any) -> Any:
    """Trains to `cfg.num_steps`, or goes on there. Returns the final TrainState."""
    e = build(cfg)
    data = e.data
    with Run(e.cfg, workdir, **how) as run:
        state = run.start(e)
        for line in data.report:
            run.note(line)
        for split, part in data.parts.items():
            for name, value in ranking.report(bm25_ranks(part)).items():
                run.baseline(f"{split}/{name}", {"BM25": value})

        for _, batch in run.steps(e.train):
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            for split, values in run.evaluate(state):
                run.log(split, values)
            state = run.save(state)

        return run.finish(state)


class Retriever:
    """A dual encoder at work, on texts, in batches of `batch_size`."""

    def __init__(self, model: DualEncoder, asked: pairs.Encoded, told: pairs.Encoded, batch_size: int):
        self._encoded = {"questions": asked, "passages": told}
        self._apply = {
            name: jax.jit(lambda variables, tokens, mask, name=name: model.apply(variables, tokens, mask, method=name))
            for name in self._encoded
        }
        self._batch_size = batch_size

    def embed(self, variables: Any, kind: str, texts: list[str]) -> np.ndarray:
        """`kind` "questions" or "passages" -> f32[n, D]."""
        return self.of_rows(variables, kind, self._encoded[kind](texts))

    def of_rows(self, variables: Any, kind: str, rows: dict[str, np.ndarray]) -> np.ndarray:
        """The same, of texts that are tokens already."""
        count, out = len(rows["tokens"]), []
        for start in range(0, count, self._batch_size):
            part = [rows[name][start : start + self._batch_size] for name in ("tokens", "mask")]
            fill = self._batch_size - len(part[0])  # one shape, one program
            part = [np.pad(x, [(0, fill), (0, 0)]) for x in part]
            out.append(jax.device_get(self._apply[kind](variables, *part))[: self._batch_size - fill])
        return np.concatenate(out)


def evaluate(retriever: Retriever, evals: Mapping[str, Any], state: Any, split: str, folder: Path) -> Evaluated:
    """{"recall_at_1", "recall_at_5", "recall_at_20", "mrr"} of a split's questions over all its passages."""
    source = evals[split].source
    queries = retriever.of_rows(state.variables, "questions", source.asked)
    passages = retriever.of_rows(state.variables, "passages", source.told)
    return Evaluated(ranking.report(ranking.ranks(queries @ passages.T, np.asarray(source.data.where))))


def bm25_ranks(part: questions.Questions) -> np.ndarray:
    """The rank of each question's own passage among all of its part, by BM25: i64[n]."""
    index = BM25(part.passages)
    return ranking.ranks(np.stack([index.scores(question) for question in part.asked]), np.asarray(part.where))


def _encoder(group: Any, lengths: Any, size: int, name: str) -> Any:
    group = {k: v for k, v in group.items() if k != "shared"}
    longest = group.pop("max_length")
    if group["name"] == "bag":
        return from_config(dual_encoder.BagEncoder, group, vocab_size=size).clone(name=name)
    longest = longest or max(lengths.length, lengths.question_length)
    encoder = from_config(bert.Encoder, group, vocab_size=size, max_length=longest)
    return dual_encoder.BertEncoder(encoder, name=name)


def loss(model: DualEncoder, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{...INPUTS, "number": i32[B]} -> mean nats a question, metrics."""
    inputs = {name: batch[name] for name in INPUTS}
    asked, told = model.apply({"params": params}, **inputs, train=True, rngs=make_rngs(key, "dropout"))
    scalar, metrics = in_batch_negatives(asked, told, batch["number"])
    return scalar, (metrics, model_state)


def predict(model: DualEncoder, variables: Any, inputs: Any) -> dict:
    """-> {"question", "passage": f32[B, D], "score": f32[B]}: the two vectors of each row, and their inner product."""
    asked, told = model.apply(variables, **{name: inputs[name] for name in INPUTS})
    return {"question": asked, "passage": told, "score": (asked * told).sum(-1)}


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> loss (nats) and accuracy, each question among its batch's passages: they grow harder with data.eval_batch_size."""
    return in_batch_negatives(outputs["question"], outputs["passage"], batch["number"], batch["mask"])[1]


def encode(asked: pairs.Encoded, told: pairs.Encoded, value: tuple[str, str]) -> dict:
    """(question, passage) -> one row."""
    question, passage = value
    if not question.strip() or not passage.strip():
        raise UserError("want a question in the first line, and after it the passage")
    parts = {"question": asked([question]), "passage": told([passage])}
    return {
        f"{name}{end}": part[key] for name, part in parts.items() for end, key in (("", "tokens"), ("_mask", "mask"))
    }


def decode(outputs: Any) -> dict:
    """-> how well they fit: comparable with other passages' scores for the same question, and nothing else."""
    return {"score": round(float(np.asarray(outputs["score"])[0]), 4)}


if __name__ == "__main__":
    launch.main(train)

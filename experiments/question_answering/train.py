"""Question answering: a question, a passage, and the span of the passage that answers it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from experiments.question_answering.reading import Reader
from research.core import mesh, optim
from research.core.config import track_reads
from research.core.experiment import Evaluated, Experiment, Predictor
from research.core.metrics import MetricSums
from research.core.step import make_eval_step, make_rngs, make_train_step, options
from research.data import tokenizers, user_files
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.text import questions, spans
from research.evals.spans import best_spans
from research.interop import weights
from research.losses.spans import span_cross_entropy
from research.models.text import bert, bidaf
from research.models.text.bert_reader import BertReader
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError, nearest

SHARDING: dict[str, Any] = {"bidaf": bidaf.SHARDING, "bert": bert.SHARDING}


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    if cfg.model.name not in SHARDING:
        raise UserError(f"model.name = {cfg.model.name!r}{nearest(cfg.model.name, SHARDING)}")
    data = questions.load(cfg.data)
    model, layout, null = READERS[cfg.model.name](cfg, data)
    if cfg.data.negatives and not null:
        raise UserError(f"data.negatives = {cfg.data.negatives} wants a model that can say so: set model.null")
    windows = spans.Windows(
        data.train, layout, cfg.data.stride, answered=not null, negatives=cfg.data.negatives, seed=cfg.seed
    )
    train = TrainBatches(windows, cfg.data.batch_size, cfg.seed)
    fn = partial(predict, model)
    reader = Reader(fn, layout, cfg.data.stride, cfg.data.eval_batch_size, null, {**cfg.answer})
    evals = {k: EvalBatches(reader.windows(part), cfg.data.eval_batch_size) for k, part in data.parts.items()}
    cfg = cfg.in_steps(train.epoch, train.batch_size)
    rows = {name: jnp.zeros((1, *shape[1:]), kind) for name, (shape, kind) in layout.inputs.items()}
    tx = optim.make(cfg.optim, cfg.num_steps)
    return Experiment(
        cfg=cfg,
        train=train,
        evals=evals,
        init_fn=lambda key: model.init(key, **rows),
        load_pretrained=weights.pretrained(cfg.pretrained, model, layout.tokenizer),
        tx=tx,
        train_step=make_train_step(partial(loss, model, tuple(rows)), tx, **options(cfg)),
        eval_step=make_eval_step(fn, partial(batch_metrics, null), cfg.dtype),
        evaluator=partial(evaluate, reader, evals),
        predictor=Predictor(
            fn, layout.inputs, partial(encode, layout), partial(decode, cfg.answer.max_length), user_files.read_pair
        ),
        rules=mesh.resolve(cfg.rules, SHARDING[cfg.model.name]),
        sharding=SHARDING[cfg.model.name],
        ema=cfg.optim.ema,
        model=model,
        data=data,
        tokenizer=layout.tokenizer,
        ask=reader,
    )


def train(cfg: Any, workdir: str | Path, **how: Any) -> Any:
    """Trains to `cfg.num_steps`, or goes on there. Returns the final TrainState."""
    e = build(cfg)
    data = e.data
    with Run(e.cfg, workdir, **how) as run:
        state = run.start(e)
        for line in [*data.report, _windows_line(e.train.source)]:
            run.note(line)

        for _, batch in run.steps(e.train):
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            for split, values in run.evaluate(state):
                run.log(split, values)
            state = run.save(state)

        return run.finish(state)


def evaluate(reader: Reader, evals: Mapping[str, Any], state: Any, split: str, folder: Path) -> Evaluated:
    """{"em", "f1"} of a split's questions, in percent: what batches of windows cannot tell."""
    return Evaluated(reader.score(state.variables, evals[split].source))


def _bidaf(cfg: Any, data: questions.Data) -> tuple:
    text = spans.vocabulary_text(data.train)
    words = {k: cfg.data[k] for k in ("vocab_size", "min_count", "lowercase")}
    tokenizer = tokenizers.make(cfg.data.tokenizer, text, **words)
    if not isinstance(tokenizer, tokenizers.plain.Word):
        raise UserError(f"data.tokenizer = {cfg.data.tokenizer!r}: bidaf reads words; set 'word'")
    letters = spans.alphabet(text, cfg.data.char_min_count)
    layout = spans.Apart(tokenizer, letters, *(cfg.data[k] for k in ("length", "question_length", "word_length")))
    model = from_config(bidaf.BiDAF, cfg.model, vocab_size=tokenizer.size, num_chars=len(letters) + 2)
    return model, layout, model.null


def _bert(cfg: Any, data: questions.Data) -> tuple:
    text = spans.vocabulary_text(data.train)
    tokenizer = tokenizers.make(cfg.data.tokenizer, text, vocab_size=cfg.data.vocab_size)
    layout = spans.Joined(tokenizer, cfg.data.length, cfg.data.question_length)
    group = {**cfg.model}
    longest = group.pop("max_length") or cfg.data.length
    encoder = from_config(bert.Encoder, group, vocab_size=tokenizer.size, max_length=longest)
    return BertReader(encoder), layout, True


READERS = {"bidaf": _bidaf, "bert": _bert}


def _windows_line(windows: spans.Windows) -> str:
    count, asked = len(windows), len(windows.data)
    left = f"; {windows.left:,} hold no whole answer" if windows.left else ""
    return f"windows  {count:,} of {asked:,} questions to train{left}"


def loss(model: Any, names: tuple, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{...the layout's inputs, "start", "end": i32[B]} -> mean nats a place, metrics."""
    inputs = {name: batch[name] for name in names}
    start, end = model.apply({"params": params}, **inputs, train=True, rngs=make_rngs(key, "dropout"))
    scalar, metrics = span_cross_entropy(start, end, batch["start"], batch["end"])
    return scalar, (metrics, model_state)


def predict(model: Any, variables: Any, inputs: Any) -> dict:
    """-> {"start", "end": f32[B, L]}, logits over places, of which 0 is no answer."""
    names = [k for k in inputs if k not in ("start", "end", "mask")]
    start, end = model.apply(variables, **{name: inputs[name] for name in names})
    return {"start": start, "end": end}


def batch_metrics(null: bool, outputs: Any, batch: Any) -> MetricSums:
    """-> loss (nats) and accuracy (both places right), by window: without `null` of those alone that hold their answer."""
    mask = batch["mask"] if null else batch["mask"] * (batch["start"] > 0)
    return span_cross_entropy(outputs["start"], outputs["end"], batch["start"], batch["end"], mask)[1]


def encode(layout: spans.Layout, value: tuple[str, str]) -> dict:
    """(question, passage) -> a row of the layout's inputs."""
    question, passage = value
    asked, told = layout.tokens(question).numbers, layout.tokens(passage).numbers
    if not len(asked) or not len(told):
        raise UserError("want a question in the first line, and after it the passage")
    if len(told) > (room := layout.room(asked)):
        raise UserError(f"{len(told)} tokens of passage are more than the {room} of a window; try `almanac ask`")
    return layout.rows([asked], [told])


def decode(longest: int, outputs: Any) -> dict:
    """-> the likeliest span's places (1 is the passage's first word for bidaf), and its probability."""
    start, end = (np.asarray(outputs[k]) for k in ("start", "end"))
    score, first, last = (np.asarray(x).item() for x in best_spans(jnp.asarray(start), jnp.asarray(end), longest))
    p = np.exp(score - sum(float(jax.nn.logsumexp(x)) for x in (start, end)))
    return {"first": first, "last": last, "probability": round(float(p), 4)}


if __name__ == "__main__":
    launch.main(train)

"""Token labelling: a BERT gives each word of a text one label out of N."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from research.algorithms import finetune
from research.core import mesh
from research.core.config import track_reads
from research.core.experiment import Experiment, Predictor
from research.core.metrics import MetricSums
from research.core.step import make_eval_step, make_rngs, make_train_step, options
from research.data import user_files
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.text import labelled_words
from research.data.text.labelled_words import NONE, Labelled
from research.interop import weights
from research.losses.language import cross_entropy
from research.models.text import bert
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    data = labelled_words.load(cfg.data)
    train = TrainBatches(data.parts["train"], cfg.data.batch_size, cfg.seed)
    evals = {k: EvalBatches(v, cfg.data.eval_batch_size) for k, v in data.parts.items() if k != "train"}
    cfg = cfg.in_steps(train.epoch, train.batch_size)
    sizes = {"vocab_size": data.rows.tokenizer.size, "max_length": cfg.data.length}
    model = bert.BertForTokenLabels(from_config(bert.Encoder, cfg.model, **sizes), len(data.classes))
    tx = finetune.make(cfg.optim, cfg.finetune, cfg.num_steps)
    return Experiment(
        cfg=cfg,
        train=train,
        evals=evals,
        init_fn=lambda key: model.init(key, jnp.zeros((1, 1), jnp.int32)),
        load_pretrained=weights.pretrained(cfg.pretrained, model, data.rows.tokenizer),
        tx=tx,
        train_step=make_train_step(partial(loss, model), tx, **options(cfg)),
        eval_step=make_eval_step(partial(predict, model), partial(batch_metrics, data.classes), cfg.dtype),
        split_metrics=with_macro,
        predictor=Predictor(
            partial(label, model),
            {"tokens": (("b", "t"), "int32"), "length": (("b",), "int32"), "starts": (("b", "t"), "int32")},
            partial(encode, data),
            partial(decode, data),
            user_files.read,
            limits=[f"t <= {cfg.data.length}"],
        ),
        rules=mesh.resolve(cfg.rules, bert.SHARDING),
        sharding=bert.SHARDING,
        ema=cfg.optim.ema,
        model=model,
        data=data,
        tokenizer=data.rows.tokenizer,
    )


def train(cfg: Any, workdir: str | Path, **how: Any) -> Any:
    """Trains to `cfg.num_steps`, or goes on there. Returns the final TrainState."""
    e = build(cfg)
    with Run(e.cfg, workdir, **how) as run:
        state = run.start(e)
        for line in e.data.report:
            run.note(line)
        for metric, values in e.data.baselines.items():
            run.baseline(f"valid/{metric}", values)

        for _, batch in run.steps(e.train):
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            for split, values in run.evaluate(state):
                run.log(split, values)
            state = run.save(state)

        return run.finish(state)


def loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"tokens", "labels": i32[B, T], "length": i32[B]} -> mean nats a word, metrics."""
    logits = model.apply({"params": params}, batch["tokens"], inside(batch), train=True, rngs=make_rngs(key, "dropout"))
    scalar, metrics = cross_entropy(logits, *targets(batch))
    return scalar, (metrics, model_state)


def inside(batch: Any) -> jax.Array:
    """What of each row is no padding: bool[B, T]."""
    return jnp.arange(batch["tokens"].shape[1]) < batch["length"][:, None]


def targets(batch: Any) -> tuple[jax.Array, jax.Array]:
    """Labels i32[B, T], 0 where there is none, and a mask f32[B, T] of where there is one."""
    has = batch["labels"] != NONE
    return jnp.where(has, batch["labels"], 0), has.astype(jnp.float32)


def predict(model: Any, variables: Any, inputs: Any) -> dict:
    """{"tokens": i32[B, T], "length": i32[B]} -> {"logits": f32[B, T, N]}."""
    return {"logits": model.apply(variables, inputs["tokens"], inside(inputs))}


def label(model: Any, variables: Any, inputs: Any) -> dict:
    """The same with "starts" i32[B, T], 1 at the first piece of each word -> "probabilities" f32[B, T, N], and the inputs."""
    probabilities = jax.nn.softmax(predict(model, variables, inputs)["logits"])
    return {"probabilities": probabilities, **{name: inputs[name] for name in ("tokens", "starts", "length")}}


def batch_metrics(classes: Sequence[str], outputs: Any, batch: Any) -> MetricSums:
    """-> loss (nats), accuracy, and F1 of each class, 2 hits / (predicted + true), by word."""
    labels, mask = targets(batch)
    mask = mask * batch["mask"][:, None]
    metrics = cross_entropy(outputs["logits"], labels, mask)[1]
    called = outputs["logits"].argmax(-1)
    f1 = {}
    for i, name in enumerate(classes):
        true, said = (labels == i) * mask, (called == i) * mask
        f1[f"f1/{name.replace(' ', '_')}"] = 2 * jnp.sum(true * said), jnp.sum(true) + jnp.sum(said)
    return {**metrics, **f1}


def with_macro(values: dict[str, float]) -> dict[str, float]:
    """The F1 of a class that neither occurs nor is called is 0; `macro_f1` is the mean over classes."""
    values = {name: 0.0 if np.isnan(value) else value for name, value in values.items()}
    return {**values, "macro_f1": float(np.mean([value for name, value in values.items() if name.startswith("f1/")]))}


def encode(data: Labelled, value: str) -> dict:
    """A text -> its words as one row, as many as it holds, i32[1, T]."""
    if not (words := value.split()):
        raise UserError("the text is empty: there is no word to label")
    tokens, labels = data.rows.of_text([(word, 0) for word in words])[0]
    starts = np.array([labels]) != NONE
    return {
        "tokens": np.array([tokens], np.int32),
        "starts": starts.astype(np.int32),
        "length": np.array([len(tokens)]),
    }


def decode(data: Labelled, outputs: Any) -> dict:
    """-> each word with its likeliest class and its probability."""
    tokens, p = outputs["tokens"][0], np.asarray(outputs["probabilities"])[0]
    first = np.flatnonzero(outputs["starts"][0])
    ends = [*first[1:], int(outputs["length"][0]) - 1]
    words = [data.rows.tokenizer.decode(tokens[a:b]).strip() for a, b in zip(first, ends, strict=True)]
    best = p[first].argmax(-1)
    return {
        "words": [[w, data.classes[c], round(float(q[c]), 4)] for w, c, q in zip(words, best, p[first], strict=True)]
    }


if __name__ == "__main__":
    launch.main(train)

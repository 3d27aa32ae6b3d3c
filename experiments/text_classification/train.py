"""Text classification: a text, one label out of N."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from research.algorithms import finetune, max_norm
from research.core import mesh
from research.core.config import track_reads
from research.core.experiment import Experiment, Predictor
from research.core.metrics import MetricSums
from research.core.step import make_eval_step, make_rngs, make_train_step, options
from research.data import user_files
from research.data.text import labelled_text
from research.evals import classifier_report
from research.interop import weights
from research.losses.classification import cross_entropy
from research.models.text import bert, gpt, text_cnn, text_ngrams, text_recurrent, text_transformer
from research.nn.from_config import from_config
from research.run.checkpoint import Checkpoints, NoWholeCheckpoint
from research.run.run import Run
from research.util.errors import UserError, nearest


def _plain(cls: Any) -> Any:
    return lambda group, vocab_size, num_classes, max_length: from_config(
        cls, group, vocab_size=vocab_size, num_classes=num_classes
    )


# name -> (its group of the config, vocabulary, classes, length -> module; sharding rules)
MODELS: dict[str, tuple[Callable, Mapping]] = {
    "recurrent": (_plain(text_recurrent.TextRecurrent), text_recurrent.SHARDING),
    "cnn": (_plain(text_cnn.TextCNN), text_cnn.SHARDING),
    "ngrams": (_plain(text_ngrams.TextNGrams), text_ngrams.SHARDING),
    "bert": (text_transformer.make_bert, bert.SHARDING),
    "gpt": (text_transformer.make_gpt, gpt.SHARDING),
}


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    if cfg.model.name not in MODELS:
        raise UserError(f"model.name = {cfg.model.name!r}{nearest(cfg.model.name, MODELS)}")
    if cfg.threshold not in classifier_report.METRICS:
        raise UserError(f"threshold = {cfg.threshold!r}{nearest(cfg.threshold, classifier_report.METRICS)}")
    make, rules = MODELS[cfg.model.name]
    data = labelled_text.load(cfg.data)
    if cfg.model.name == "bert" and "cls" not in data.encoder.tokenizer.special:
        raise UserError(
            "model.name = 'bert' reads the class token: set data.tokenizer=wordpiece, or of words data.special"
        )
    train = labelled_text.batches(data.train, cfg.data.buckets, cfg.data.batch_size, cfg.seed)
    sources = {"valid": data.valid, "test": data.test}
    evals = {
        name: labelled_text.batches(source, cfg.data.buckets, cfg.data.eval_batch_size)
        for name, source in sources.items()
        if source is not None
    }
    if not evals:
        raise UserError("the data has neither a validation nor a test part; set data.valid_fraction above 0")
    cfg = cfg.in_steps(train.epoch, train.epoch / train.steps if cfg.data.buckets else train.batch_size)
    model = make(cfg.model, data.encoder.size, len(data.classes), cfg.data.length)
    tx = max_norm.wrap(finetune.make(cfg.optim, cfg.finetune, cfg.num_steps), cfg.max_norm.limit, cfg.max_norm.match)
    one = (jnp.ones((1, cfg.data.length), jnp.int32), jnp.ones(1, jnp.int32))
    return Experiment(
        cfg=cfg,
        train=train,
        evals=evals,
        init_fn=lambda key: model.init(key, *one),
        load_pretrained=weights.pretrained(cfg.pretrained, model, data.encoder.tokenizer),
        tx=tx,
        train_step=make_train_step(partial(loss, model), tx, **options(cfg)),
        eval_step=make_eval_step(partial(predict, model), batch_metrics, cfg.dtype),
        predictor=Predictor(
            partial(predict, model),
            {"tokens": (("b", "t"), "int32"), "length": (("b",), "int32")},
            partial(encode, data),
            partial(decode, data),
            user_files.read,
            limits=[f"t <= {cfg.data.length}"],
        ),
        rules=mesh.resolve(cfg.rules, rules),
        sharding=rules,
        ema=cfg.optim.ema,
        model=model,
        data=data,
        tokenizer=data.encoder.tokenizer,
    )


def train(cfg: Any, workdir: str | Path, **how: Any) -> Any:
    """Trains to `cfg.num_steps`, or goes on there. Returns the final TrainState."""
    e = build(cfg)
    data = e.data
    with Run(e.cfg, workdir, **how) as run:
        state = run.start(e)
        for line in data.report:
            run.note(line)
        run.baseline(f"{next(iter(e.evals))}/accuracy", data.baselines)

        for _, batch in run.steps(e.train):
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            for split, values in run.evaluate(state):
                run.log(split, values)
            state = run.save(state)

        state = run.finish(state)
        with run.on_one_device(best(run, state)) as local_state:
            report(e, run, local_state)
        return state


def best(run: Run, state: Any) -> Any:
    """The state that was best on validation, where the config asks for one, else `state`."""
    kept = Checkpoints(run.dir / "best")
    try:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
        return kept.restore(shapes)[0] if kept.steps() else state
    except NoWholeCheckpoint as e:
        run.note(f"{e}; the report below is of the last step")
        return state
    finally:
        kept.close()


def report(e: Experiment, run: Run, state: Any) -> None:
    """Scores and pictures of every split under samples/, with a threshold chosen on validation."""
    found = {split: scored(e, state, sweep) for split, sweep in e.evals.items()}
    title = f"{e.cfg.name or run.dir.name}, step {int(state.step):,}"
    classifier_report.write(run.sample, found, e.data.classes, title, e.cfg.threshold)


def scored(e: Experiment, state: Any, batches: Any) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities f64[n, N] and labels i32[n] of every example of one pass."""
    fn, rows = jax.jit(e.predictor.fn), []
    for i in range(len(batches)):
        batch = batches.batch(i)
        real = batch["mask"] > 0
        outputs = fn(state.variables, {name: batch[name] for name in e.predictor.inputs})
        rows.append((np.asarray(outputs["probabilities"], np.float64)[real], batch["label"][real]))
    p, labels = zip(*rows, strict=True)
    return np.concatenate(p), np.concatenate(labels)


def loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"tokens": i32[B, T], "length", "label": i32[B]} -> mean nats a text, metrics."""
    rngs = make_rngs(key, "dropout")
    logits = model.apply({"params": params}, batch["tokens"], batch["length"], train=True, rngs=rngs)
    scalar, metrics = cross_entropy(logits, batch["label"], batch.get("mask"))
    return scalar, (metrics, model_state)


def predict(model: Any, variables: Any, inputs: Any) -> dict:
    """{"tokens": i32[B, T], "length": i32[B]} -> {"logits", "probabilities": f32[B, N]}."""
    logits = model.apply(variables, inputs["tokens"], inputs["length"])
    return {"logits": logits, "probabilities": jax.nn.softmax(logits)}


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> loss (nats) and accuracy, by text."""
    return cross_entropy(outputs["logits"], batch["label"], batch["mask"])[1]


def encode(data: labelled_text.Labelled, value: str) -> dict:
    """A text -> its tokens, i32[1, T]."""
    if not value.strip():
        raise UserError("the text is empty: there is nothing to classify")
    return data.encoder.row(value)


def decode(data: labelled_text.Labelled, outputs: Any) -> dict:
    """-> the likeliest class, and the five likeliest with their probabilities."""
    p = np.asarray(outputs["probabilities"])[0]
    best = {data.classes[i]: round(float(p[i]), 4) for i in np.argsort(-p)[:5]}
    return {"class": next(iter(best)), "probabilities": best}


if __name__ == "__main__":
    launch.main(train)

"""Translation and summaries: a transformer reads a line and learns to say another."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from experiments.translation import final, quality
from research.core import mesh, optim
from research.core.config import track_reads
from research.core.experiment import Experiment, Predictor
from research.core.metrics import MetricSums
from research.core.step import make_eval_step, make_rngs, make_train_step, options
from research.data import user_files
from research.data.buckets import Bucketed, Ragged, bounds
from research.data.text import language_modelling, parallel
from research.interop import weights
from research.losses.language import cross_entropy
from research.models.text import transformer
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    data = parallel.load(cfg.data, cfg.model.shared)
    edges = _edges(data, cfg.data)
    train = Bucketed(data.parts["train"], edges, cfg.data.tokens, cfg.seed, cfg.data.row_multiple)
    held = {name: part for name, part in data.parts.items() if name != "train"}
    evals = {k: Bucketed(v, edges, cfg.data.eval_tokens, multiple=cfg.data.row_multiple) for k, v in held.items()}
    cfg = cfg.in_steps(train.epoch, train.epoch / train.steps)  # type: ignore[arg-type]  # examples a step, on average
    final.check(cfg)
    sizes = {"vocab_size": data.target.size, "source_vocab_size": data.source.size, "max_length": edges[-1]}
    model = from_config(transformer.Transformer, cfg.model, **sizes)
    tx = optim.make(cfg.optim, cfg.num_steps)
    judge = quality.Quality(model, data, cfg, evals)
    return Experiment(
        cfg=cfg,
        train=train,
        evals=evals,
        init_fn=lambda key: model.init(key, *jnp.ones((3, 1, 1), jnp.int32)),
        load_pretrained=weights.pretrained(cfg.pretrained, model, data.source, data.target),
        tx=tx,
        train_step=make_train_step(partial(loss, model, cfg.loss.smoothing), tx, **options(cfg)),
        eval_step=make_eval_step(partial(logits, model), batch_metrics, cfg.dtype),
        split_metrics=perplexity,
        evaluator=judge,
        measured=("valid",),
        at_end=[split for split, part in final.PARTS.items() if part in evals],
        predictor=Predictor(
            judge.translate,
            {"source": (("b", "s"), "int32"), "source_mask": (("b", "s"), "float32")},
            partial(encode, data),
            partial(decode, data),
            user_files.read,
            limits=[f"s <= {edges[-1]}"],
        ),
        rules=mesh.resolve(cfg.rules, transformer.SHARDING),
        sharding=transformer.SHARDING,
        ema=cfg.optim.ema,
        model=model,
        data=data,
        tokenizer=data.source if data.source is data.target else None,
        sample=sample,
    )


def train(cfg: Any, workdir: str | Path, **how: Any) -> Any:
    """Trains to `cfg.num_steps`, or goes on there. Returns the final TrainState."""
    e = build(cfg)
    data, judge = e.data, cast(quality.Quality, e.evaluator)
    with Run(e.cfg, workdir, **how) as run:
        state = run.start(e)
        for line in [*data.report, *e.train.report]:
            run.note(line)
        run.baseline("valid/loss", _baselines(data), "nats/token")
        if "rouge" in cfg.scores:
            run.baseline("valid/rougeL", {"the source's first words": judge.lead("valid")["rougeL"]})

        for _, batch in run.steps(e.train):
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            for split, values in run.evaluate(state):
                run.log(split, values)
            state = run.save(state)

        for split in final.missing(run.dir, run.done, e.at_end):  # none if a run was killed after this
            run.log(split, run.measure(state, split))
        return run.finish(state)


def _edges(data: parallel.Parallel, cfg: Any) -> list[int]:
    """The buckets' lengths, from the training part; one more where other parts have longer lines."""
    edges = bounds(data.parts["train"].lengths, cfg.buckets, cfg.bucket_step)
    longest = max(int(part.lengths.max()) for part in data.parts.values())
    return edges if longest <= edges[-1] else [*edges, -(-longest // cfg.bucket_step) * cfg.bucket_step]


def _baselines(data: parallel.Parallel) -> dict[str, float]:
    """What the counts of the training part's targets, one after the other, reach on the validation part's."""

    def all_of(part: Ragged) -> np.ndarray:
        rows = part.gather(np.arange(len(part)))
        return rows["targets"][rows["targets_mask"] == 1]

    return language_modelling.baselines(all_of(data.parts["train"]), all_of(data.parts["valid"]), data.target.size)


def loss(
    model: transformer.Transformer, smoothing: float, params: Any, model_state: Any, batch: Any, key: jax.Array
) -> tuple:
    """{"source", "tokens", "targets": i32[B, L], masks} -> mean nats a target token, smoothed, metrics."""
    inputs = (batch["source"], batch["source_mask"], batch["tokens"])
    how = {"train": True, "rngs": make_rngs(key, "dropout")}
    out = model.apply({"params": params}, *inputs, defer_logits=True, **how)
    scalar, metrics = cross_entropy(out, batch["targets"], _counted(batch), smoothing)
    return scalar, (metrics, model_state)


def logits(model: transformer.Transformer, variables: Any, batch: Any) -> dict:
    """{"source", "source_mask", "tokens"} -> {"logits": [B, L, V]}, of the target token that follows each."""
    inputs = (batch["source"], batch["source_mask"], batch["tokens"])
    return {"logits": model.apply(variables, *inputs, defer_logits=True)}


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """Logits against the targets -> loss (nats) and accuracy, by target token."""
    return cross_entropy(outputs["logits"], batch["targets"], _counted(batch))[1]


def _counted(batch: Any) -> jax.Array:
    return batch["targets_mask"] * batch["mask"][:, None]


def perplexity(values: dict[str, float]) -> dict[str, float]:
    """A split's means and exp of its mean loss."""
    return {**values, "perplexity": math.exp(min(values["loss"], 700))}


def encode(data: parallel.Parallel, value: str) -> dict:
    """A text -> a row for each of its lines that is not empty."""
    lines = [line for line in value.splitlines() if line.strip()]
    if not lines:
        raise UserError("the text has no line to translate")
    return data.encode([data.corpus.prepare(line) for line in lines])


def decode(data: parallel.Parallel, outputs: Any) -> dict:
    """-> what each line becomes, as it is written."""
    return {"lines": [data.corpus.restore(data.text(row)) for row in np.asarray(outputs["tokens"])]}


def sample(
    e: Experiment, state: Any, key: jax.Array, out: Path | None = None, *, prompt: str | None = None
) -> Iterator[str]:
    """What the lines of `prompt` become, by beam search; without one, the first line of the validation part."""
    del key, out  # nothing is drawn
    data = e.data
    rows = encode(data, prompt) if prompt is not None else data.encode(data.corpus.parts["valid"].source[:1])
    yield "\n".join(decode(data, jax.device_get(jax.jit(e.predictor.fn)(state.variables, rows)))["lines"])


if __name__ == "__main__":
    launch.main(train)

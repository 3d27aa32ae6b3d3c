"""Translation and summaries: a transformer reads a line and writes another."""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.translation import average_checkpoints, evaluation
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums
from research.core.step import cast, make_rngs
from research.data.text import translation
from research.evals.rouge import rouge
from research.generation import beam
from research.losses.language import cross_entropy
from research.models.text import transformer
from research.nn.from_config import from_config
from research.run.run import Run


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    data = translation.load(cfg.data, cfg.model.shared, cfg.seed, rouge if "rouge" in cfg.scores else None)
    cfg = cfg.in_steps(data.train.epoch, data.train.examples_per_step)
    average_checkpoints.check(cfg)
    sizes = {"vocab_size": data.target.size, "source_vocab_size": data.source.size, "max_length": data.max_length}
    model = from_config(transformer.Transformer, cfg.model, **sizes)
    search = partial(predict, dtype=cfg.dtype, bos=data.bos, options=evaluation.search_options(cfg.translate, data))
    translated = partial(search, width=cfg.translate.beam, length=data.max_length, tagged=bool(data.corpus.directions))
    return supervised(
        cfg, data, model, example=tuple(jnp.ones((3, 1, 1), jnp.int32)),
        loss=partial(loss, smoothing=cfg.loss.smoothing),
        predict=translated, eval_predict=next_token_logits,
        batch_metrics=batch_metrics, rule_sets=transformer.SHARDING, split_metrics=perplexity,
        evaluator=evaluation.Translations(partial(search, model), data, cfg), judged=evaluation.METRICS,
        measured=[part for part in data.evals if part.startswith("valid")],
        at_end=list(average_checkpoints.splits(data.one_way)) if cfg.scores else [], sample=sample,
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
        for split, values in run.evaluate_at_end(state):
            run.log(split, values)
        return run.finish(state)


def loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array, *, smoothing: float) -> tuple:
    """{"source", "tokens", "targets": i32[B, L], their masks, "mask"} -> terms in nats a target token, smoothed; metrics."""
    inputs, rngs = (batch["source"], batch["source_mask"], batch["tokens"]), make_rngs(key, "dropout")
    logits = model.apply({"params": params}, *inputs, defer_logits=True, train=True, rngs=rngs)
    terms, metrics = cross_entropy(logits, batch["targets"], _counted(batch), smoothing)
    return terms, (metrics, model_state)


def predict(
    model: Any,
    variables: Any,
    inputs: Any,
    *,
    width: int,
    length: int,
    dtype: str,
    bos: int,
    options: Mapping[str, Any],
    tagged: bool = False,
) -> dict:
    """{"source": i32[B, S], "source_mask": f32[B, S]} -> {"tokens": i32[B, length], "score": f32[B]}, a beam's best hypothesis.

    `width` is the beam's; `options` are further arguments of `beam.search`. `tagged` adds "asked", i32[B], each source's tag.
    """
    B = inputs["source"].shape[0]
    step, cache = decoder(model, variables, inputs, width, length, dtype)
    beams = beam.search(step, cache, jnp.full(B, bos, jnp.int32), length=length, beam=width, **options)
    blank = inputs["source_mask"].sum(-1) < 2  # the end alone: a blank line stays one
    tokens = jnp.where(blank[:, None], options["eos"], beams.tokens[:, 0])
    outputs = {"tokens": tokens, "score": beams.scores[:, 0]}
    return {**outputs, "asked": inputs["source"][:, 0]} if tagged else outputs


def decoder(model: Any, variables: Any, inputs: Any, width: int, length: int, dtype: str) -> tuple[Callable, Any]:
    """-> step (tokens i32[B * width], cache) -> (logits f32[B * width, V], cache), and the cache of B rows before a token."""
    variables = {**variables, "params": cast(variables["params"], dtype)}
    memory = beam.repeat(model.apply(variables, inputs["source"], inputs["source_mask"], method="encode"), width)

    def step(tokens: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
        logits, cache = model.apply(variables, tokens[:, None], memory, cache, method="decode")
        return logits[:, 0], cache

    return step, model.init_cache(inputs["source"].shape[0], length, jnp.dtype(dtype))


def next_token_logits(model: Any, variables: Any, batch: Any) -> dict:
    """{"source", "source_mask", "tokens"} -> {"logits": [B, L, V]} of the target token that follows each."""
    inputs = (batch["source"], batch["source_mask"], batch["tokens"])
    return {"logits": model.apply(variables, *inputs, defer_logits=True)}


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> loss (nats) and accuracy, by target token."""
    return cross_entropy(outputs["logits"], batch["targets"], _counted(batch))[1]


def _counted(batch: Any) -> jax.Array:
    """Which targets count: f32[B, L], 0 for padding and in rows that fill the batch up."""
    return batch["targets_mask"] * batch["mask"][:, None]


def perplexity(values: dict[str, float]) -> dict[str, float]:
    """A split's means, with exp of its mean loss."""
    return {**values, "perplexity": math.exp(min(values["loss"], 700))}


def sample(
    e: Experiment, state: Any, key: jax.Array, out: Path | None = None, *, prompt: str | None = None
) -> Iterator[str]:
    """The translation of each line of `prompt`, by beam search; without one, of the validation part's first line."""
    del key, out  # nothing is drawn
    data = e.data
    inputs = (
        data.codec.encode_lines(data.corpus.parts["valid"].source[:1]) if prompt is None else data.codec.encode(prompt)
    )
    outputs = jax.device_get(jax.jit(e.predictor.fn)(state.variables, inputs))
    yield "\n".join(data.codec.decode(outputs)["lines"])


if __name__ == "__main__":
    launch.main(train)

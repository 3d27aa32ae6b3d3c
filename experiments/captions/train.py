"""Captions: what is in a picture, in a sentence, and answers to questions about it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from experiments.captions import model as models
from experiments.captions.codec import PROMPT_LENGTH
from experiments.captions.data import SHAPE, TEXT_LENGTH, Captions
from experiments.captions.evaluation import Evaluation
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums
from research.core.step import cast, make_rngs
from research.generation import beam
from research.interpret import targets
from research.losses.classification import negative_log_likelihood
from research.losses.language import cross_entropy
from research.nn.from_config import from_config
from research.run.run import Run


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    data = Captions(cfg.data, cfg.seed)
    (tokenizer,) = data.tokenizers
    model = from_config(models.Describer, cfg.model, vocab_size=tokenizer.size, max_length=TEXT_LENGTH)
    words = {"bos": data.bos, "eos": tokenizer.special["eos"]}
    banned = sorted(i for name, i in tokenizer.special.items() if name != "eos")
    written = partial(predict, dtype=cfg.dtype, banned=banned, **words)
    return supervised(
        cfg, data, model,
        example=(jnp.zeros((1, *SHAPE)), jnp.ones((1, PROMPT_LENGTH), jnp.int32), jnp.ones((1, 1), jnp.int32)),
        loss=loss, predict=written, eval_predict=next_token_logits, batch_metrics=batch_metrics,
        rule_sets=models.SHARDING, evaluator=Evaluation(partial(written, model), data),
        judged=Evaluation.METRICS, measured=["valid"], explained=explained,
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
    """A batch as `Examples` has it -> the term in nats a token of the caption or answer, metrics."""
    inputs, rngs = (batch["image"], batch["prompt"], batch["tokens"]), make_rngs(key, "dropout")
    logits = model.apply({"params": params}, *inputs, defer_logits=True, train=True, rngs=rngs)
    terms, metrics = cross_entropy(logits, batch["targets"], batch["targets_mask"])
    return terms, (metrics, model_state)


def predict(model: Any, variables: Any, inputs: Any, *, dtype: str, bos: int, eos: int, banned: list[int]) -> dict:
    """{"image": f32[B, Y, X, C], "prompt": i32[B, P]} -> {"tokens": i32[B, T], "score": f32[B]}, by greedy search.

    The score is the text's log-likelihood in nats.
    """
    B = inputs["image"].shape[0]
    step, cache = decoder(model, variables, inputs, dtype)
    first = jnp.full(B, bos, jnp.int32)
    beams = beam.search(step, cache, first, length=TEXT_LENGTH, beam=1, eos=eos, alpha=0.0, banned=banned)
    return {"tokens": beams.tokens[:, 0], "score": beams.scores[:, 0]}


def decoder(model: Any, variables: Any, inputs: Any, dtype: str) -> tuple[Callable, Any]:
    """-> step (tokens i32[B], cache) -> (logits f32[B, V], cache), and the cache before a token."""
    variables = {**variables, "params": cast(variables["params"], dtype)}
    memory = model.apply(variables, inputs["image"].astype(dtype), inputs["prompt"], method="encode")

    def step(tokens: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
        logits, cache = model.apply(variables, tokens[:, None], memory, cache, method="decode")
        return logits[:, 0], cache

    return step, model.init_cache(inputs["image"].shape[0], TEXT_LENGTH, jnp.dtype(dtype))


def next_token_logits(model: Any, variables: Any, batch: Any) -> dict:
    """{"image", "prompt", "tokens"} -> {"logits": [B, T, V]} of the token that follows each."""
    inputs = (batch["image"], batch["prompt"], batch["tokens"])
    return {"logits": model.apply(variables, *inputs, defer_logits=True)}


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> loss (nats) and accuracy, by token of the caption or answer."""
    return cross_entropy(outputs["logits"], batch["targets"], batch["targets_mask"] * batch["mask"][:, None])[1]


def explained(e: Experiment, variables: Any, inputs: Any) -> targets.Target:
    """The log-likelihood in nats of the text that is written about a picture, or answers its question."""
    codec: Any = e.predictor.codec
    tokens = np.asarray(jax.jit(e.predictor.fn)(variables, inputs)["tokens"])
    ends = tokens == codec.tokenizer.special["eos"]
    written = np.cumsum(ends, -1) - ends == 0  # up to the first end, and that
    before = np.concatenate([np.full((1, 1), e.data.bos), tokens[:, :-1]], -1)

    def score(variables: Any, image: jax.Array) -> jax.Array:
        prompt, said = (jnp.repeat(jnp.asarray(x), len(image), 0) for x in (inputs["prompt"], before))
        logits = e.model.apply(variables, image, prompt, said)
        nats = negative_log_likelihood(logits, jnp.repeat(jnp.asarray(tokens), len(image), 0))
        return -(nats * written).sum(-1)

    text = codec.text(tokens[0])
    fact = f"{text}: log-likelihood {float(score(variables, inputs['image'])[0]):.4f} nats"
    return targets.Target(score, inputs["image"], "log-likelihood", [fact], [text])


if __name__ == "__main__":
    launch.main(train)

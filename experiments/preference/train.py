"""Learning from preferences: demonstrations, a reward model, DPO on pairs, GRPO on rewards."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.preference import policy
from experiments.preference.sampling import sample
from research.algorithms import lora
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums
from research.core.step import make_rngs
from research.data.text import preferences
from research.interop import weights
from research.losses.classification import weighted
from research.losses.preference import bradley_terry, dpo, token_log_probs
from research.models.text import gpt
from research.models.text.text_transformer import make_gpt
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError, nearest

METHODS = ("sft", "reward", "dpo", "grpo")


class Settings(NamedTuple):
    """Numbers of the methods, checked: all are read whatever the method."""

    beta: float  # dpo
    smoothing: float
    grpo: policy.Settings


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    method, settings = cfg.method, check(cfg)
    data = preferences.load(cfg.data, cfg.seed)
    cfg = cfg.in_steps(data.train.epoch, data.train.examples_per_step)
    sizes = {"vocab_size": data.tokenizer.size, "max_length": data.length}
    if method == "reward":
        model = make_gpt(cfg.model, num_classes=1, **sizes)
        return supervised(
            cfg, data, model, example=(jnp.ones((1, 1), jnp.int32), jnp.ones(1, jnp.int32)), loss=reward_loss,
            predict=predict_reward, eval_predict=pair_rewards, batch_metrics=pair_metrics, rule_sets=gpt.SHARDING,
        )  # fmt: skip
    model = from_config(gpt.GPT, cfg.model, **sizes)
    judge = partial(policy.judge, end=data.end, settings=settings.grpo)
    more: dict[str, Any] = {}
    if method != "sft":
        more = {"init_fn": partial(init_with_reference, model), "load_pretrained": _load(cfg, model, data)}
    losses: dict[str, Any] = {
        "sft": imitation_loss,
        "dpo": partial(dpo_loss, settings),
        "grpo": partial(policy.loss, settings.grpo),
    }
    e = supervised(
        cfg, data, model, example=(jnp.zeros((1, 1), jnp.int32),), loss=losses[method], predict=predict,
        eval_predict=partial(outputs, judge, settings), batch_metrics=batch_metrics, rule_sets=gpt.SHARDING, sample=sample,
        **more,
    )  # fmt: skip
    if method != "grpo":
        return e
    adapters = lora.make(cfg.get("lora", {}), cfg.pretrained)
    step = policy.make_train_step(model, e.tx, e.cfg, settings.grpo, data.end, adapters)
    return dataclasses.replace(e, train_step=step, built=None)


def check(cfg: Any) -> Settings:
    """Reads the groups of all methods. Raises UserError for an unknown method and for numbers out of range."""
    if cfg.method not in METHODS:
        raise UserError(f"method = {cfg.method!r}{nearest(cfg.method, METHODS)}")
    beta, smoothing = cfg.dpo.beta, cfg.dpo.smoothing
    if not beta > 0:
        raise UserError(f"dpo.beta = {beta}: above 0")
    if not 0 <= smoothing < 0.5:
        raise UserError(f"dpo.smoothing = {smoothing}: at least 0 and below 0.5, the share of wrong preferences")
    if cfg.method in ("dpo", "grpo") and cfg.model.dropout:
        raise UserError(
            f"model.dropout = {cfg.model.dropout}: {cfg.method} compares with a reference, without dropout; set it to 0"
        )
    return Settings(beta, smoothing, policy.check(cfg))


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


# The reference: the parameters that training began with, kept in the state and never changed


def init_with_reference(model: Any, key: jax.Array) -> dict:
    """-> {"params", "reference"}: equal, and apart in memory, since a step donates its state."""
    params = model.init(key, jnp.zeros((1, 1), jnp.int32))["params"]
    return {"params": params, "reference": jax.tree.map(jnp.copy, params)}


def _load(cfg: Any, model: Any, data: preferences.Preferences) -> Any:
    load = weights.pretrained(cfg.pretrained, model, *data.tokenizers)

    def with_reference(state: Any, run: Any) -> Any:
        state = load(state.replace(model_state={}), run)  # the weights are of the policy alone
        return state.replace(model_state={"reference": jax.tree.map(jnp.copy, state.params)})

    return with_reference


# Losses


def imitation_loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"demonstration": i32[B, T], "demonstration_mask"} -> the term in nats a token of the completions, metrics."""
    tokens, mask = batch["demonstration"], batch["demonstration_mask"]
    logits = model.apply({"params": params}, tokens, train=True, rngs=make_rngs(key, "dropout"))
    terms, metrics = weighted({"loss": -token_log_probs(logits, tokens, mask)}, mask)
    return terms, (metrics, model_state)


def reward_loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"chosen", "rejected": i32[B, T], their masks} -> the term in nats a pair, metrics."""
    rngs = make_rngs(key, "chosen", "rejected")
    chosen, rejected = (_reward(model, {"params": params}, batch, name, rngs[name]) for name in ("chosen", "rejected"))
    terms, metrics = weighted({"loss": bradley_terry(chosen, rejected), "pair_accuracy": chosen > rejected})
    return terms, (metrics, model_state)


def dpo_loss(settings: Settings, model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"chosen", "rejected": i32[B, T], their masks} -> the term in nats a pair, metrics."""
    del key  # nothing is drawn
    reference = policy.as_dtype(model_state["reference"], params)
    pairs = pair_log_probs(model, {"params": params}, batch), pair_log_probs(model, {"params": reference}, batch)
    loss, margin = dpo(*pairs[0], *pairs[1], settings.beta, settings.smoothing)
    terms, metrics = weighted({"loss": loss, "margin": margin, "pair_accuracy": margin > 0})
    return terms, (metrics, model_state)


def pair_log_probs(model: Any, variables: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities of the chosen and the rejected completions: f32[B] each."""
    chosen, rejected = (
        token_log_probs(model.apply(variables, batch[name]), batch[name], batch[f"{name}_mask"]).sum(-1)
        for name in ("chosen", "rejected")
    )
    return chosen, rejected


def _reward(model: Any, variables: Any, batch: Any, name: str, key: jax.Array | None = None) -> jax.Array:
    """The reward of a completion, f32[B], read at its end token."""
    places = jnp.arange(1, batch[name].shape[1] + 1)
    length = (places * (batch[f"{name}_mask"] > 0)).max(-1)
    options = {} if key is None else {"train": True, "rngs": {"dropout": key}}
    return model.apply(variables, batch[name], length, **options)[:, 0]


# Prediction and evaluation


def predict(model: Any, variables: Any, inputs: Any) -> dict:
    """{"tokens": i32[B, T], "length": i32[B]} -> {"logits": f32[B, V]} of the token that follows."""
    logits = model.apply({"params": variables["params"]}, inputs["tokens"])
    return {"logits": jnp.take_along_axis(logits, (inputs["length"] - 1)[:, None, None], 1)[:, 0]}


def predict_reward(model: Any, variables: Any, inputs: Any) -> dict:
    """{"tokens": i32[B, T], "length": i32[B]} -> {"reward": f32[B]} of a prompt and its completion."""
    return {"reward": model.apply(variables, inputs["tokens"], inputs["length"])[:, 0]}


def pair_rewards(model: Any, variables: Any, batch: Any) -> dict:
    """-> {"chosen", "rejected": f32[B]}."""
    return {name: _reward(model, variables, batch, name) for name in ("chosen", "rejected")}


def pair_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> loss (nats) and pair_accuracy, by pair."""
    chosen, rejected = outputs["chosen"], outputs["rejected"]
    values = {"loss": bradley_terry(chosen, rejected), "pair_accuracy": chosen > rejected}
    return weighted(values, batch["mask"])[1]


def outputs(judge: Any, settings: Settings, model: Any, variables: Any, batch: Any) -> dict:
    """What the policy says of the pairs, and `policy.judge` of its own completions: {metric: f32[B]}."""
    own = {"params": variables["params"]}
    chosen, rejected = pair_log_probs(model, own, batch)
    out = {"loss": -chosen / batch["chosen_mask"].sum(-1), "pair_accuracy": (chosen > rejected).astype(jnp.float32)}
    if "reference" in variables:
        other = pair_log_probs(model, {"params": policy.as_dtype(variables["reference"], variables["params"])}, batch)
        _, out["margin"] = dpo(chosen, rejected, *other, settings.beta)
        out["pair_accuracy"] = (out["margin"] > 0).astype(jnp.float32)
    return out | judge(model, variables, batch)


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> means over examples; loss is in nats a token of the chosen completion."""
    return weighted(outputs, batch["mask"])[1]


if __name__ == "__main__":
    launch.main(train)

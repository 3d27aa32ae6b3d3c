"""Language models: a GPT, an LSTM or a GRU learns the next token."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from experiments.language_model import stateful
from experiments.language_model.chat import Chat
from experiments.language_model.replies import Replies
from experiments.language_model.sampling import sample
from research.algorithms.supervised import supervised
from research.core import mesh
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums
from research.core.step import make_rngs
from research.data.text import dialogues, language_modelling
from research.generation.decoding import check_settings
from research.losses.language import cross_entropy
from research.models.text import gpt, recurrent_lm
from research.nn import moe
from research.nn.from_config import choose, from_config
from research.run.run import Run
from research.util.errors import UserError
from research.util.files import write_text

# name -> (module, sharding rules)
MODELS: dict[str, tuple[Any, dict]] = {
    "gpt": (gpt.GPT, gpt.SHARDING),
    "gru": (recurrent_lm.GRULM, recurrent_lm.SHARDING),
    "lstm": (recurrent_lm.LSTMLM, recurrent_lm.SHARDING),
}


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    module, rule_sets = choose(MODELS, cfg.model.name)
    is_gpt = module is gpt.GPT
    if cfg.data.packing and (not is_gpt or cfg.data.carry):
        raise UserError(
            "data.packing = True: only a gpt keeps documents apart; set model.name to gpt and data.carry to None"
        )
    if cfg.data.carry and is_gpt:
        raise UserError("data.carry = True: a gpt has no state to carry; set it to None, or model.name to lstm or gru")
    talks = cfg.data.source in dialogues.SOURCES
    data = (dialogues if talks else language_modelling).load(cfg.data, cfg.seed)
    sizes = {"vocab_size": data.tokenizer.size} | ({"max_length": data.length} if is_gpt else {})
    model = from_config(module, cfg.model, **sizes)
    options = {**cfg.sample, "prompt": _prompt(data, cfg.sample.prompt)}
    check_settings(options, "sample.")
    more = _with_carry(cfg, model, rule_sets) if cfg.data.carry else {}
    if is_gpt and model.experts > 1:
        more |= {"whole_batch": "a router's balance is of the whole batch"}
    if talks:
        more |= {"evaluator": Replies(model, data), "judged": ("exact", "exact_*")}
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, 1), jnp.int32),), loss=loss, predict=predict,
        eval_predict=partial(predict, defer_logits=True), batch_metrics=batch_metrics, rule_sets=rule_sets,
        split_metrics=partial(split_metrics, perplexity=talks or cfg.data.tokenizer == "word"), sample=partial(sample, options),
        chat=partial(Chat, options), **more,
    )  # fmt: skip


def _with_carry(cfg: Any, model: Any, rule_sets: Any) -> dict:
    """What differs where a recurrent state is carried from batch to batch: it is model state, saved with the rest."""

    def init_fn(key: jax.Array) -> dict:
        variables = model.init(key, jnp.zeros((1, 1), jnp.int32))
        return {**variables, "carry": model.init_cache(cfg.data.batch_size)["layers"]}

    return {
        "init_fn": init_fn,
        "eval_step": stateful.make_eval_step(model, batch_metrics, cfg),
        "rules": (*mesh.resolve(cfg.rules, rule_sets), *recurrent_lm.CARRY_SHARDING),
        "whole_batch": "a state is carried from batch to batch",
    }


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
        with run.on_one_device(state) as local_state:
            run.sample("sample.txt", partial(write_sample, e, local_state))
        return run.finish(state)


def write_sample(e: Experiment, state: Any, file: Path) -> None:
    """Writes the text that `cfg.sample` asks for, the same for the same parameters."""
    write_text(file, "".join(e.sample(e, state, jax.random.key(e.cfg.seed))))


def _prompt(data: language_modelling.LanguageModelling, prompt: str) -> str:
    """The config's prompt, checked before training. For the default, a newline, the data's own opening where that is no token, or
    no message."""
    if prompt == "\n" and isinstance(data, dialogues.Dialogues):
        return data.opening
    try:
        if len(data.tokenizer.encode(prompt)):
            return prompt
        error = UserError(f"sample.prompt = {prompt!r} has no token in this vocabulary")
    except UserError as e:
        error = e
    if prompt != "\n":
        raise error
    return data.opening


def loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"tokens": i32[B, T], "targets": i32[B, T], or i32[B, 1] of the last} -> terms in nats a target, with a router's balance;
    metrics; model state with the carry."""
    # Deferred: the loss multiplies the logits out, in chunks if they are large.
    options = {"train": True, "rngs": make_rngs(key, "dropout"), "defer_logits": True, **_packed(batch)}
    if "carry" in model_state:
        logits, carry = stateful.apply_with_carry(model, params, model_state["carry"], batch, **options)
        model_state, routed = {**model_state, "carry": carry}, None
    else:
        logits, kept = model.apply({"params": params}, batch["tokens"], mutable=["routing"], **options)
        routed = moe.routing(kept)
    targets = batch["targets"]
    terms, metrics = cross_entropy(logits.last(targets.shape[1]), targets, batch.get("token_mask"))
    if routed:
        balance, entropy = routed
        terms = {**terms, "balance": (balance, 1.0, model.balance)}
        metrics = {**metrics, "balance": (balance, 1.0), "load_entropy": (entropy, 1.0)}
    return terms, (metrics, model_state)


def predict(model: Any, variables: Any, inputs: Any, *, defer_logits: bool = False) -> dict:
    """{"tokens": i32[B, T]} -> {"logits": f32[B, T, V]}, of the token that follows each."""
    options = {"defer_logits": defer_logits, **_packed(inputs)}
    return {"logits": model.apply({"params": variables["params"]}, inputs["tokens"], **options)}


def _packed(batch: Any) -> dict:
    """The model's arguments for several documents packed in one window."""
    return {name: batch[name] for name in ("segment_ids", "position_ids") if name in batch}


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> loss (nats) and accuracy, by target."""
    targets, mask = batch["targets"], batch["token_mask"] * batch["mask"][:, None]
    return cross_entropy(outputs["logits"].last(targets.shape[1]), targets, mask)[1]


def split_metrics(values: dict[str, float], *, perplexity: bool) -> dict[str, float]:
    """A split's means, with the perplexity, exp of the mean loss, if tokens are words or of replies."""
    return {**values, "perplexity": float(np.exp(values["loss"]))} if perplexity else values


if __name__ == "__main__":
    launch.main(train)

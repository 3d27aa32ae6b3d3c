"""Language models: a GPT, an LSTM or a GRU learns the next token."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from experiments.language_model import carried
from experiments.language_model.sampling import sample
from research.core import mesh, optim
from research.core.config import track_reads
from research.core.experiment import Experiment, Predictor
from research.core.metrics import MetricSums
from research.core.step import make_eval_step, make_rngs, make_train_step, options
from research.data import user_files
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.text import continued, language_modelling
from research.data.text.packed import Packed
from research.data.text.packed import encode as encode_documents
from research.interop import weights
from research.losses.language import cross_entropy
from research.models.text import gpt, recurrent_lm
from research.nn import moe
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError, nearest
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
    name = cfg.model.name or "gpt"
    if name not in MODELS:
        raise UserError(f"model.name = {name!r}{nearest(name, MODELS)}")
    module, sharding = MODELS[name]
    data = language_modelling.load(cfg.data)
    train, evals = batches(data, cfg)
    cfg = cfg.in_steps(train.epoch, train.batch_size)
    reach = {"max_length": cfg.data.length} if module is gpt.GPT else {}
    model = from_config(module, cfg.model, vocab_size=data.tokenizer.size, **reach)
    tx = optim.make(cfg.optim, cfg.num_steps)
    rules = mesh.resolve(cfg.rules, sharding)
    evaluate = make_eval_step(partial(predict, model, defer_logits=True), batch_metrics, cfg.dtype)
    if cfg.data.carry:
        rules, evaluate = (*rules, *recurrent_lm.CARRY_SHARDING), carried.make_eval_step(model, batch_metrics, cfg)
    return Experiment(
        cfg=cfg,
        train=train,
        evals=evals,
        init_fn=partial(init, model, cfg.data.batch_size if cfg.data.carry else 0),
        load_pretrained=weights.pretrained(cfg.pretrained, model, data.tokenizer),
        tx=tx,
        train_step=make_train_step(partial(loss, model), tx, **options(cfg)),
        eval_step=evaluate,
        split_metrics=partial(perplexity, cfg),
        predictor=Predictor(
            partial(predict, model),
            {"tokens": (("b", "t"), "int32")},
            partial(encode, data, cfg),
            partial(decode, data),
            user_files.read,
            limits=[f"t <= {cfg.data.length}"],
        ),
        rules=rules,
        sharding=sharding,
        ema=cfg.optim.ema,
        model=model,
        data=data,
        tokenizer=data.tokenizer,
        sample=partial(sample, {**cfg.sample, "prompt": _prompt(data, cfg.sample.prompt)}),
    )


def batches(data: language_modelling.Text, cfg: Any) -> tuple[TrainBatches, dict[str, EvalBatches]]:
    """-> endless training batches, and a sweep over each of the other parts."""
    how, parts = cfg.data, {"valid": data.valid}
    if data.test is not None:
        parts["test"] = data.test
    is_gpt = cfg.model.name in (None, "gpt")
    if how.packing:
        if not is_gpt or how.carry:
            raise UserError(
                "data.packing = True: only a gpt keeps documents apart; set model.name and data.carry to None"
            )
        packs = {
            k: Packed(encode_documents(getattr(data.corpus, k), data.tokenizer), how.length) for k in ("train", *parts)
        }
        data.report.extend(f"packing  {k}: {pack.report}" for k, pack in packs.items())
        train = TrainBatches(packs.pop("train"), how.batch_size, cfg.seed)
        return train, {k: EvalBatches(pack, how.eval_batch_size) for k, pack in packs.items()}
    if not how.carry:
        train = TrainBatches(language_modelling.Windows(data.train, how.length, cfg.seed), how.batch_size, cfg.seed)
        return train, {
            k: EvalBatches(language_modelling.Windows(v, how.length), how.eval_batch_size) for k, v in parts.items()
        }
    if is_gpt:
        raise UserError("data.carry = True: a gpt has no state to carry; set it to None, or model.name to lstm or gru")
    if cfg.optim.accumulate > 1:
        raise UserError(
            f"data.carry = True wants the rows together; set optim.accumulate = {cfg.optim.accumulate} to 1"
        )
    rows = partial(continued.Rows, length=how.length)
    train = TrainBatches(rows(data.train, rows=how.batch_size), how.batch_size, cfg.seed, shuffle=False)
    rows = partial(rows, rows=how.eval_batch_size, every=True, key="data.eval_batch_size")
    return train, {k: EvalBatches(rows(v), how.eval_batch_size) for k, v in parts.items()}


def init(model: Any, rows: int, key: jax.Array) -> dict:
    """{"params"} and, where `rows` carry a state from batch to batch, {"carry"}: before the first, nothing read."""
    variables = model.init(key, jnp.zeros((1, 1), jnp.int32))
    return {**variables, "carry": model.init_cache(rows)["layers"]} if rows else variables


def train(cfg: Any, workdir: str | Path, **how: Any) -> Any:
    """Trains to `cfg.num_steps`, or goes on there. Returns the final TrainState."""
    e = build(cfg)
    data = e.data
    with Run(e.cfg, workdir, **how) as run:
        state = run.start(e)
        for line in data.report:
            run.note(line)
        run.baseline(
            "valid/loss", language_modelling.baselines(data.train, data.valid, data.tokenizer.size), "nats/token"
        )

        for _, batch in run.steps(e.train):
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            for split, values in run.evaluate(state):
                run.log(split, values)
            state = run.save(state)

        with run.on_one_device(state) as local_state:
            run.sample("sample.txt", partial(draw, e, local_state))
        return run.finish(state)


def draw(e: Experiment, state: Any, file: Path) -> None:
    """Writes the text that `cfg.sample` asks for, the same for the same parameters."""
    write_text(file, "".join(e.sample(e, state, jax.random.key(e.cfg.seed))))


def _prompt(data: language_modelling.Text, prompt: str) -> str:
    """The config's prompt, found wrong before the training; where a newline is no token, the text's own first token."""
    try:
        if len(data.tokenizer.encode(prompt)):
            return prompt
        wrong = UserError(f"sample.prompt = {prompt!r} has no token in this vocabulary")
    except UserError as e:
        wrong = e
    if prompt != "\n":
        raise wrong
    return data.tokenizer.decode(data.valid[:1])


def loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"tokens", "targets": i32[B, T]} -> mean nats a token, metrics, the state carried on."""
    # Deferred: the loss multiplies the logits out, in chunks if they are large.
    how = {"train": True, "rngs": make_rngs(key, "dropout"), "defer_logits": True, **_packed(batch)}
    if "carry" in model_state:
        logits, carry = carried.go_on(model, params, model_state["carry"], batch, **how)
        model_state = {**model_state, "carry": carry}
        routed = None
    else:
        logits, seen = model.apply({"params": params}, batch["tokens"], mutable=["routing"], **how)
        routed = moe.routing(seen)
    scalar, metrics = cross_entropy(logits, batch["targets"], batch.get("token_mask"))
    if routed:
        scalar += model.balance * routed[0]
        metrics = {**metrics, "balance": (routed[0], 1.0), "load_entropy": (routed[1], 1.0)}
    return scalar, (metrics, model_state)


def predict(model: Any, variables: Any, inputs: Any, defer_logits: bool = False) -> dict:
    """{"tokens": i32[B, T]} -> {"logits": f32[B, T, V]}, of the token that follows each."""
    how = {"defer_logits": defer_logits, **_packed(inputs)}
    return {"logits": model.apply({"params": variables["params"]}, inputs["tokens"], **how)}


def _packed(batch: Any) -> dict:
    """What a model is told of documents that lie in one window."""
    return {name: batch[name] for name in ("segments", "places") if name in batch}


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """Logits against the targets -> loss (nats) and accuracy, by token."""
    mask = batch["token_mask"] * batch["mask"][:, None]
    return cross_entropy(outputs["logits"], batch["targets"], mask)[1]


def perplexity(cfg: Any, values: dict[str, float]) -> dict[str, float]:
    """A split's means and, where tokens are words, exp of its mean loss."""
    return {**values, "perplexity": float(np.exp(values["loss"]))} if cfg.data.tokenizer == "word" else values


def encode(data: language_modelling.Text, cfg: Any, value: str) -> dict:
    """A text -> its last `data.length` tokens, i32[1, T]."""
    tokens = data.tokenizer.encode(value)
    if not len(tokens):
        raise UserError("the text is empty: there is nothing to predict from")
    return {"tokens": tokens[None, -cfg.data.length :].astype(np.int32)}


def decode(data: language_modelling.Text, outputs: Any) -> dict:
    """Logits f32[1, T, V] -> the five likeliest next tokens and their probabilities."""
    last = np.asarray(outputs["logits"])[0, -1].astype(np.float64)
    p = np.exp(last - last.max())
    p /= p.sum()
    return {"next": {data.tokenizer.decode(np.array([i])): round(float(p[i]), 4) for i in np.argsort(-p)[:5]}}


if __name__ == "__main__":
    launch.main(train)

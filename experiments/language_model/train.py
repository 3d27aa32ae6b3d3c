"""Language models: a GPT learns the next token."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from research.core import mesh, optim
from research.core.config import track
from research.core.experiment import Experiment, Predictor
from research.core.metrics import Pairs
from research.core.run import Run
from research.core.step import make_eval_step, make_train_step, options, streams
from research.data import text
from research.data.pipeline import Stream, Sweep
from research.host.errors import UserError
from research.interop import weights
from research.losses.language import cross_entropy
from research.models import gpt
from research.nn import decoding
from research.nn.construct import construct


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track(cfg)
    data = text.load(cfg.data)
    train = Stream(text.Windows(data.train, cfg.data.length, cfg.seed), cfg.data.batch_size, cfg.seed)
    valid = Sweep(text.Windows(data.valid, cfg.data.length), cfg.data.eval_batch_size)
    cfg = cfg.in_steps(train.epoch, train.batch_size)
    model = construct(gpt.GPT, cfg.model, vocab_size=data.tokenizer.size, max_length=cfg.data.length)
    tx = optim.make(cfg.optim, cfg.num_steps)
    return Experiment(
        cfg=cfg,
        train=train,
        evals={"valid": valid},
        init=lambda key: model.init(key, jnp.zeros((1, 1), jnp.int32)),
        initial=weights.initial(cfg.init),
        tx=tx,
        train_step=make_train_step(partial(loss, model), tx, **options(cfg)),
        eval_step=make_eval_step(partial(predict, model), measure, cfg.dtype),
        predictor=Predictor(
            partial(predict, model),
            {"tokens": (("b", "t"), "int32")},
            partial(encode, data, cfg),
            partial(decode, data),
            limits=[f"t <= {cfg.data.length}"],
        ),
        rules=mesh.resolve(cfg.rules, gpt.SHARDING),
        sharding=gpt.SHARDING,
        ema=cfg.optim.ema,
        context=(data, model, {**cfg.sample, "prompt": _prompt(data, cfg.sample.prompt)}),
    )


def train(cfg: Any, workdir: str | Path, **how: Any) -> Any:
    """Trains to `cfg.num_steps`, or goes on there. Returns the final TrainState."""
    e = build(cfg)
    data, *_ = e.context
    with Run(e.cfg, workdir, **how) as run:
        state = run.start(e)
        for line in data.report:
            run.note(line)
        run.baseline("valid/loss", text.baselines(data.train, data.valid, data.tokenizer.size), "nats/token")

        for _, batch in run.steps(e.train):
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            if run.due(e.cfg.eval_every):
                run.log("valid", run.evaluate(e.eval_step, state, e.evals["valid"]))
            state = run.save(state)

        with run.alone(state) as here:
            run.sample("sample.txt", partial(draw, e, here))
        return run.finish(state)


def draw(e: Experiment, state: Any, file: Path) -> None:
    """Writes the text that `cfg.sample` asks for, the same for the same parameters."""
    file.write_text("".join(sample(e, state, jax.random.key(e.cfg.seed))), encoding="utf-8")


def _prompt(data: text.Text, prompt: str) -> str:
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


def loss(model: gpt.GPT, params: Any, extra: Any, batch: Any, key: jax.Array) -> tuple:
    """{"tokens", "targets": i32[B, T]} -> mean nats a token, metrics."""
    logits = model.apply({"params": params}, batch["tokens"], train=True, rngs=streams(key, "dropout"))
    scalar, metrics = cross_entropy(logits, batch["targets"])
    return scalar, (metrics, extra)


def predict(model: gpt.GPT, variables: Any, inputs: Any) -> dict:
    """{"tokens": i32[B, T]} -> {"logits": f32[B, T, V]}, of the token that follows each."""
    return {"logits": model.apply(variables, inputs["tokens"])}


def measure(outputs: Any, batch: Any) -> Pairs:
    """Logits against the targets -> loss (nats) and accuracy, by token."""
    mask = batch["token_mask"] * batch["mask"][:, None]
    return cross_entropy(outputs["logits"], batch["targets"], mask)[1]


def encode(data: text.Text, cfg: Any, file: str | Path) -> dict:
    """A UTF-8 file -> its last `data.length` tokens, i32[1, T]."""
    try:
        tokens = data.tokenizer.encode(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"cannot read {file} as UTF-8 text: {e}") from None
    if not len(tokens):
        raise UserError(f"{file} is empty: there is nothing to predict from")
    return {"tokens": tokens[None, -cfg.data.length :].astype(np.int32)}


def decode(data: text.Text, outputs: Any) -> dict:
    """Logits f32[1, T, V] -> the five likeliest next tokens and their probabilities."""
    last = np.asarray(outputs["logits"])[0, -1].astype(np.float64)
    p = np.exp(last - last.max())
    p /= p.sum()
    return {"next": {data.tokenizer.decode(np.array([i])): round(float(p[i]), 4) for i in np.argsort(-p)[:5]}}


def sample(
    e: Experiment, state: Any, key: jax.Array, out: Path | None = None, *,
    prompt: str | None = None, stop: Sequence[str] = (), **changes: Any,
) -> Iterator[str]:  # fmt: skip
    """Text continued from `prompt` as `cfg.sample` says (keywords change its keys), in pieces as they come.

    It ends before the first of the texts `stop`. `out` is for pictures, and not used.
    """
    del out
    data, model, how = e.context
    how = how | changes
    default, length = how.pop("prompt"), how.pop("length")
    prompt = default if prompt is None else prompt
    encode = data.tokenizer.encode
    given = encode(prompt)
    if not len(given):
        raise UserError(f"prompt {prompt!r} has no token in this vocabulary")
    tokens = jnp.asarray(given, jnp.int32)[None]
    known = len(data.tokenizer.decode(given))  # words and pieces are joined as their neighbours want it
    ids, shown = [*given.tolist()], prompt
    columns = decoding.stream(
        model, state.variables, tokens, key, length=length, block=16, stop=[encode(s) for s in stop], **how
    )
    yield prompt
    for column in columns:
        ids.append(int(column[0]))
        whole = prompt + data.tokenizer.decode(np.asarray(ids))[known:]
        ends = [at for s in stop if (at := whole.find(s, len(prompt))) >= 0]
        whole = whole[: min(ends)] if ends else whole.rstrip("\ufffd")  # perhaps half a character
        yield whole[len(shown) :]
        shown = whole


if __name__ == "__main__":
    launch.main(train)

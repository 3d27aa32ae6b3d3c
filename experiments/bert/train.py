"""BERT: an encoder learns to fill in masked tokens, and whether one text follows another."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from research.core import mesh, optim
from research.core.config import track_reads
from research.core.experiment import Experiment, Predictor
from research.core.metrics import MetricSums
from research.core.step import make_eval_step, make_rngs, make_train_step, options
from research.data import tokenizers, user_files
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.text import corpora, language_modelling, masked
from research.interop import weights
from research.losses import classification, language
from research.models.text import bert
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError
from research.util.files import write_text

MASK, SEP = "[MASK]", "[SEP]"  # in a file to fill in


class Data(NamedTuple):
    """Sources of masked pairs, their tokens' meaning, what to tell and what to beat."""

    train: masked.Masked
    valid: masked.Masked
    tokenizer: tokenizers.Tokenizer
    report: list[str]
    unigram: float


def load(cfg: Any, seed: int) -> Data:
    """The corpus `data.source` as pairs of segments with masked tokens; those to validate on are the same for every seed."""
    found = corpora.load(cfg)
    tokenizer = language_modelling.make_tokenizer(cfg, found)
    parts = {part: masked.documents(getattr(found, part), tokenizer, found.marks) for part in ("train", "valid")}
    sources = {}
    for part, documents in parts.items():
        drawn = seed if part == "train" else None
        pairs = masked.SegmentPairs(documents, cfg.length, tokenizer, drawn, cfg.short)
        sources[part] = masked.Masked(pairs, tokenizer, drawn, cfg.mask_rate, cfg.predictions, cfg.whole_word)
    sizes = ", ".join(f"{len(d):,} documents of {len(d.tokens):,} tokens in {part}" for part, d in parts.items())
    pairs = ", ".join(f"{len(source):,} to {part}" for part, source in sources.items())
    report = [
        *found.report,
        f"tokens   {cfg.tokenizer}, vocabulary {tokenizer.size:,}: {sizes}",
        f"pairs    {pairs}; {sources['train'].predictions} masked tokens at most in one",
    ]
    known = language_modelling.baselines(parts["train"].tokens, parts["valid"].tokens, tokenizer.size)
    return Data(sources["train"], sources["valid"], tokenizer, report, known["unigram"])


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    data = load(cfg.data, cfg.seed)
    train = TrainBatches(data.train, cfg.data.batch_size, cfg.seed)
    cfg = cfg.in_steps(train.epoch, train.batch_size)
    sizes = {"vocab_size": data.tokenizer.size, "max_length": cfg.data.length}
    model = bert.BertForPretraining(from_config(bert.Encoder, cfg.model, **sizes))
    tx = optim.make(cfg.optim, cfg.num_steps)
    return Experiment(
        cfg=cfg,
        train=train,
        evals={"valid": EvalBatches(data.valid, cfg.data.eval_batch_size)},
        init_fn=lambda key: model.init(key, jnp.zeros((1, 1), jnp.int32)),
        load_pretrained=weights.pretrained(cfg.pretrained, model, data.tokenizer),
        tx=tx,
        train_step=make_train_step(partial(loss, model), tx, **options(cfg)),
        eval_step=make_eval_step(partial(predict, model, defer_logits=True), batch_metrics, cfg.dtype),
        predictor=Predictor(
            partial(fill, model),
            {
                "tokens": (("b", "t"), "int32"),
                "segments": (("b", "t"), "int32"),
                "token_mask": (("b", "t"), "float32"),
            },
            partial(encode, data.tokenizer, cfg.data.length),
            partial(decode, data.tokenizer),
            user_files.read,
            limits=[f"t <= {cfg.data.length}"],
        ),
        rules=mesh.resolve(cfg.rules, bert.SHARDING),
        sharding=bert.SHARDING,
        ema=cfg.optim.ema,
        model=model,
        data=data,
        tokenizer=data.tokenizer,
    )


def train(cfg: Any, workdir: str | Path, **how: Any) -> Any:
    """Trains to `cfg.num_steps`, or goes on there. Returns the final TrainState."""
    e = build(cfg)
    with Run(e.cfg, workdir, **how) as run:
        state = run.start(e)
        for line in e.data.report:
            run.note(line)
        run.baseline("valid/mlm_loss", {"unigram": e.data.unigram}, "nats/token")

        for _, batch in run.steps(e.train):
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            for split, values in run.evaluate(state):
                run.log(split, values)
            state = run.save(state)

        with run.on_one_device(state) as local_state:
            run.sample("filled.txt", partial(draw, e, local_state))
        return run.finish(state)


def loss(model: bert.BertForPretraining, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"tokens", "segments": i32[B, T], "token_mask": f32[B, T], "positions": i32[B, P], and the targets of `scores`} ->
    mean nats a masked token and mean nats a pair, added; metrics.
    """
    how = {"train": True, "rngs": make_rngs(key, "dropout")}
    outputs = model.apply({"params": params}, *_inputs(batch), defer_logits=True, **how)
    scalar, metrics = scores(outputs, batch, jnp.ones(len(batch["next"])))
    return scalar, (metrics, model_state)


def predict(model: bert.BertForPretraining, variables: Any, inputs: Any, defer_logits: bool = False) -> dict:
    """The inputs of `loss` -> {"mlm": f32[B, P, V], "nsp": f32[B, 2]}, logits."""
    return model.apply(variables, *_inputs(inputs), defer_logits=defer_logits)


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> the losses (nats) and accuracies of both tasks."""
    return scores(outputs, batch, batch["mask"])[1]


def scores(outputs: Any, batch: Any, rows: jax.Array) -> tuple[jax.Array, MetricSums]:
    """Logits, {"targets": i32[B, P], "target_mask": f32[B, P], "next": i32[B]} and a weight f32[B] for each row -> the sum
    of both tasks' means, and pairs. A batch's sum counts as its rows do; `mlm_` metrics go by masked token.
    """
    mlm, of_tokens = language.cross_entropy(outputs["mlm"], batch["targets"], batch["target_mask"] * rows[:, None])
    nsp, of_pairs = classification.cross_entropy(outputs["nsp"], batch["next"], rows)
    count = of_pairs["loss"][1]
    metrics = {"loss": ((mlm + nsp) * count, count)}
    for task, found in {"mlm": of_tokens, "nsp": of_pairs}.items():
        metrics |= {f"{task}_{name}": pair for name, pair in found.items()}
    return mlm + nsp, metrics


def _inputs(batch: Any) -> tuple:
    return tuple(batch[name] for name in ("tokens", "token_mask", "segments", "positions"))


def fill(model: bert.BertForPretraining, variables: Any, inputs: Any) -> dict:
    """{"tokens", "segments": i32[B, T], "token_mask": f32[B, T]} -> {"mlm": f32[B, T, V], "nsp": f32[B, 2]}, logits, and
    the tokens and segments."""
    outputs = model.apply(variables, inputs["tokens"], inputs["token_mask"], inputs["segments"])
    return {**outputs, "tokens": inputs["tokens"], "segments": inputs["segments"]}


def encode(tokenizer: tokenizers.Tokenizer, length: int, value: str) -> dict:
    """A text with [MASK]s, or two texts with a [SEP] between -> i32[1, T]."""
    whole = value.strip()
    if MASK not in whole and SEP not in whole:
        raise UserError(f"the text has no {MASK} to fill in, and no {SEP} between two texts")
    special, tokens, segments = tokenizer.special, [tokenizer.special["cls"]], [0]
    for segment, part in enumerate(whole.split(SEP, 1)):
        # A piece that begins a word has the space before it, where pieces have spaces at all.
        pieces = [tokenizer.encode(piece.rstrip(" ")).tolist() for piece in part.split(MASK)]
        found = pieces[0] + [i for piece in pieces[1:] for i in (special["mask"], *piece)]
        tokens += [*found, special["sep"]]
        segments += [segment] * (len(found) + 1)
    if len(tokens) > length:
        raise UserError(f"the text has {len(tokens)} tokens, more than the {length} of data.length; shorten it")
    row = {"tokens": np.array([tokens], np.int32), "segments": np.array([segments], np.int32)}
    return {**row, "token_mask": np.ones(row["tokens"].shape, np.float32)}


def decode(tokenizer: tokenizers.Tokenizer, outputs: Any) -> dict:
    """-> for each [MASK] the five likeliest pieces; for two texts the probability that the second follows the first."""
    masks = np.flatnonzero(outputs["tokens"][0] == tokenizer.special["mask"])
    said: dict[str, Any] = {"masks": [likeliest(tokenizer, outputs["mlm"][0, at]) for at in masks]}
    if outputs["segments"][0].any():
        said["follows"] = round(float(_softmax(outputs["nsp"][0])[0]), 4)
    return said


def likeliest(tokenizer: tokenizers.Tokenizer, logits: np.ndarray) -> dict[str, float]:
    """f32[V] -> the five likeliest pieces with their probabilities."""
    p = _softmax(logits)
    return {tokenizer.decode(np.array([i])): round(float(p[i]), 4) for i in np.argsort(-p)[:5]}


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(np.asarray(logits, np.float64) - np.max(logits))
    return shifted / shifted.sum()


def draw(e: Experiment, state: Any, file: Path, rows: int = 4) -> None:
    """Writes the first rows to validate on as the model reads them, and of each masked token the truth and what it says."""
    tokenizer, batch = e.data.tokenizer, e.evals["valid"].source.gather(np.arange(min(rows, len(e.data.valid))))
    outputs = jax.device_get(jax.jit(e.predictor.fn)(state.variables, {k: batch[k] for k in e.predictor.inputs}))
    lines = []
    for row, count in enumerate(batch["target_mask"].sum(-1).astype(int)):
        lines.append(tokenizer.decode(batch["tokens"][row][batch["token_mask"][row] > 0]))
        for at, target in zip(batch["positions"][row, :count], batch["targets"][row], strict=False):
            said = likeliest(tokenizer, outputs["mlm"][row, at])
            lines.append(
                f"  {tokenizer.decode(np.array([target]))!r}: {', '.join(f'{k!r} {p}' for k, p in said.items())}"
            )
    write_text(file, "\n".join(lines) + "\n")


if __name__ == "__main__":
    launch.main(train)

"""BERT: an encoder learns to fill in masked tokens, and whether one text follows another."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums, Terms, objective
from research.core.step import make_rngs
from research.data.text import bert_pretraining
from research.losses import classification, language
from research.models.text import bert
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.files import write_text


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    data = bert_pretraining.load(cfg.data, cfg.seed)
    sizes = {"vocab_size": data.tokenizer.size, "max_length": data.length}
    model = bert.BertForPretraining(from_config(bert.Encoder, cfg.model, **sizes))
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, 1), jnp.int32),), loss=loss, predict=predict,
        eval_predict=predict_masked, batch_metrics=batch_metrics, rule_sets=bert.SHARDING,
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
        with run.on_one_device(state) as local_state:
            run.sample("filled.txt", partial(write_filled, e, local_state))
        return run.finish(state)


def loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"tokens", "token_type_ids": i32[B, T], "token_mask": f32[B, T], "masked_positions": i32[B, P], and the targets of
    `both_tasks`} -> terms in nats a masked token and nats a pair, metrics.
    """
    options = {"train": True, "rngs": make_rngs(key, "dropout"), "defer_logits": True}
    outputs = model.apply({"params": params}, *_inputs(batch), **options)
    terms, metrics = both_tasks(outputs, batch, jnp.ones(len(batch["next"])))
    return terms, (metrics, model_state)


def predict_masked(model: Any, variables: Any, batch: Any) -> dict:
    """The inputs of `loss` -> {"mlm": [B, P, V], "nsp": f32[B, 2]}, logits of the masked places alone."""
    return model.apply(variables, *_inputs(batch), defer_logits=True)


def _inputs(batch: Any) -> tuple:
    return tuple(batch[name] for name in ("tokens", "token_mask", "token_type_ids", "masked_positions"))


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> the losses (nats) and accuracies of both tasks."""
    return both_tasks(outputs, batch, batch["mask"])[1]


def both_tasks(outputs: Any, batch: Any, rows: jax.Array) -> tuple[Terms, MetricSums]:
    """Logits, {"targets": i32[B, P], "target_mask": f32[B, P], "next": i32[B]} and a weight f32[B] of each row -> a term of each
    task, and metrics; the sum of both counts as a batch's rows do, `mlm_` metrics by masked token.
    """
    mlm, of_tokens = language.cross_entropy(outputs["mlm"], batch["targets"], batch["target_mask"] * rows[:, None])
    nsp, of_pairs = classification.cross_entropy(outputs["nsp"], batch["next"], rows)
    terms = {"mlm": mlm["loss"], "nsp": nsp["loss"]}
    count = of_pairs["loss"][1]
    metrics = {"loss": (objective(terms) * count, count)}
    for task, sums in {"mlm": of_tokens, "nsp": of_pairs}.items():
        metrics |= {f"{task}_{name}": pair for name, pair in sums.items()}
    return terms, metrics


def predict(model: Any, variables: Any, inputs: Any) -> dict:
    """{"tokens", "token_type_ids": i32[B, T], "token_mask": f32[B, T]} -> {"mlm": f32[B, T, V], "nsp": f32[B, 2]}, logits, and
    the tokens and segments."""
    outputs = model.apply(variables, inputs["tokens"], inputs["token_mask"], inputs["token_type_ids"])
    return {**outputs, "tokens": inputs["tokens"], "token_type_ids": inputs["token_type_ids"]}


def write_filled(e: Experiment, state: Any, file: Path, rows: int = 4) -> None:
    """Writes the first validation rows as the model reads them, and for each masked token the truth and the top five."""
    source, tokenizer = e.evals["valid"].source, e.tokenizer
    batch = source.gather(np.arange(min(rows, len(source))))
    outputs = jax.device_get(jax.jit(e.predictor.fn)(state.variables, {k: batch[k] for k in e.predictor.codec.inputs}))
    lines = []
    for row, count in enumerate(batch["target_mask"].sum(-1).astype(int)):
        lines.append(tokenizer.decode(batch["tokens"][row][batch["token_mask"][row] > 0]))
        for at, target in zip(batch["masked_positions"][row, :count], batch["targets"][row], strict=False):
            pieces = bert_pretraining.top_pieces(outputs["mlm"][row, at], tokenizer)
            shown = ", ".join(f"{piece!r} {p}" for piece, p in pieces.items())
            lines.append(f"  {tokenizer.decode(np.array([target]))!r}: {shown}")
    write_text(file, "\n".join(lines) + "\n")


if __name__ == "__main__":
    launch.main(train)

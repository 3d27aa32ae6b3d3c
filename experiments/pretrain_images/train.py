"""Self-supervised pre-training of pictures: an encoder is learnt without labels, and probed with them."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.pretrain_images import mae, simclr
from experiments.pretrain_images.data import Pictures
from experiments.pretrain_images.evaluation import Evaluation, untrained
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums
from research.data.images import augment
from research.interpret import targets
from research.nn.from_config import choose, from_config
from research.run.run import Run

MODELS = {"simclr": (simclr.SimCLR, simclr), "mae": (mae.MaskedAutoencoder, mae)}
EVAL_SEED = 0  # of views and masks in evaluation: every run is measured with the same


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    module, method = choose(MODELS, cfg.model.name)
    data, options = Pictures(cfg.data, cfg.probe, cfg.seed), dict(cfg.augment)
    shape = augment.padded(options, data.shape)
    model = from_config(module, cfg.model, **({"image_shape": shape} if method is mae else {}))
    plain, random = (augment.make(options, num_classes=0, train=train) for train in (False, True))
    embed, example = partial(predict, model, plain=plain), method.example(model, shape)
    init = partial(model.init, jax.random.key(cfg.seed), *example)
    data.encoders["untrained network"] = untrained(embed, init, cfg.mesh)
    measured = dict(seed=EVAL_SEED, augment=random if method is simclr else plain)
    return supervised(
        cfg, data, model, example=example,
        loss=partial(loss, method=method, seed=cfg.seed, augment=random),
        predict=partial(predict, plain=plain), eval_predict=lambda *args: method.outputs(*args, **measured, train=False)[0],
        batch_metrics=partial(batch_metrics, model, method=method), rule_sets=method.SHARDING,
        evaluator=Evaluation(embed, partial(method.rows, model, **measured), data, method.SAMPLE), judged=("probe", "knn"),
        measured=["valid"], whole_batch=method.WHOLE_BATCH, explained=explained,
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


def loss(
    model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array, *, method: Any, seed: int, augment: Any
) -> tuple:
    """{"image": f32[B, Y, X, C], "draw": i32[B, 2]} -> the term by picture, metrics, batch statistics."""
    del key  # a picture draws by its own number: see research/data/draws.py
    variables = {"params": params, **model_state}
    outputs, model_state = method.outputs(model, variables, batch, seed=seed, augment=augment, train=True)
    terms, metrics = method.terms(model, outputs)
    return terms, (metrics, model_state)


def predict(model: Any, variables: Any, inputs: Any, *, plain: Any) -> dict:
    """{"image": f32[B, Y, X, C] in 0..1} -> {"embedding": f32[B, D]}: the features of the encoder."""
    image = plain(None, {"image": inputs["image"]})["image"]
    return {"embedding": model.apply(variables, image, method="embed").astype(jnp.float32)}


def explained(e: Experiment, variables: Any, inputs: Any, *, unit: int | None = None) -> targets.Target:
    """One number of the embedding; by default its product with the picture's own embedding, which is held fixed.

    The product is of what the embedding as a whole hangs on (Crabbé & van der Schaar 2022, 2203.01928).
    """

    def embed(variables: Any, image: jax.Array) -> jax.Array:
        return e.predictor.fn(variables, {"image": image})["embedding"]

    def score(variables: Any, image: jax.Array) -> jax.Array:
        if unit is None:
            return (embed(variables, inputs["image"]) * embed(variables, image)).sum(-1)
        return embed(variables, image)[:, unit]

    embedding = embed(variables, inputs["image"])[0]
    if unit is None:
        quantity, fact = "product", f"norm of the embedding: {float(jnp.linalg.norm(embedding)):.4f}"
    else:
        value = float(embedding[targets.number("unit", unit, 0, len(embedding) - 1)])
        quantity, fact = "unit", f"unit {unit} of the embedding: {value:.4f}"
    return targets.Target(score, inputs["image"], quantity, [fact], [fact], transformer=e.model)


def batch_metrics(model: Any, outputs: Any, batch: Any, *, method: Any) -> MetricSums:
    """-> the loss, by picture; SimCLR's negatives are those of the evaluation's batch."""
    return method.terms(model, outputs, batch["mask"])[1]


if __name__ == "__main__":
    launch.main(train)

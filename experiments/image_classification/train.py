"""Image classification: a picture, one label out of N."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from research.core import mesh, optim
from research.core.config import track_reads
from research.core.experiment import Experiment, Predictor
from research.core.metrics import MetricSums
from research.core.step import make_eval_step, make_rngs, make_train_step, options
from research.data.images import augment, labelled
from research.data.pipeline import EvalBatches, TrainBatches
from research.interop import weights
from research.losses.classification import cross_entropy
from research.models.vision import convnet, lenet, resnet
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError, nearest

# name -> (module, sharding rules)
MODELS = {
    "convnet": (convnet.ConvNet, convnet.SHARDING),
    "lenet5": (lenet.LeNet5, {}),
    "mlp": (lenet.MLP, {}),
    "resnet": (resnet.ResNet, resnet.SHARDING),
}


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    if cfg.model.name not in MODELS:
        raise UserError(f"model.name = {cfg.model.name!r}{nearest(cfg.model.name, MODELS)}")
    module, rules = MODELS[cfg.model.name]
    data = labelled.load(cfg.data)
    train = TrainBatches(data.train, cfg.data.batch_size, cfg.seed)
    sources = {"valid": data.valid, "test": data.test}
    evals = {k: EvalBatches(v, cfg.data.eval_batch_size) for k, v in sources.items() if v is not None}
    if not evals:
        raise UserError("the data has neither a validation nor a test part; set data.valid_fraction above 0")
    cfg = cfg.in_steps(train.epoch, train.batch_size)
    model = from_config(module, cfg.model, num_classes=len(data.classes))
    changes = dict(cfg.augment)
    tx = optim.make(cfg.optim, cfg.num_steps)
    predictor = partial(predict, model, augment.make(changes, len(data.classes), train=False))
    return Experiment(
        cfg=cfg,
        train=train,
        evals=evals,
        init_fn=lambda key: model.init(key, jnp.zeros((1, *data.shape))),
        load_pretrained=weights.pretrained(cfg.pretrained, model),
        tx=tx,
        train_step=make_train_step(partial(loss, model, augment.make(changes, len(data.classes))), tx, **options(cfg)),
        eval_step=make_eval_step(predictor, batch_metrics, cfg.dtype),
        predictor=Predictor(
            predictor,
            {"image": (("b", *data.shape), "float32")},
            partial(encode, data),
            partial(decode, data),
            partial(labelled.read, shape=data.shape),
        ),
        rules=mesh.resolve(cfg.rules, rules),
        sharding=rules,
        ema=cfg.optim.ema,
        model=model,
        data=data,
    )


def train(cfg: Any, workdir: str | Path, **how: Any) -> Any:
    """Trains to `cfg.num_steps`, or goes on there. Returns the final TrainState."""
    e = build(cfg)
    with Run(e.cfg, workdir, **how) as run:
        state = run.start(e)
        for line in e.data.report:
            run.note(line)
        run.baseline(
            f"{next(iter(e.evals))}/accuracy",
            {"most frequent class": labelled.most_frequent(e.data.valid or e.data.test)},
        )

        for _, batch in run.steps(e.train):
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            for split, values in run.evaluate(state):
                run.log(split, values)
            state = run.save(state)

        return run.finish(state)


def loss(model: Any, change: Any, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """{"image": f32[B, Y, X, C], "label": i32[B]} -> mean nats an image, metrics, batch statistics."""
    rngs = make_rngs(key, "augment", "dropout")
    batch = change(rngs["augment"], batch)
    logits, model_state = model.apply(
        {"params": params, **model_state}, batch["image"], train=True, mutable=list(model_state), rngs=rngs
    )
    scalar, metrics = cross_entropy(logits, batch["label"])
    return scalar, (metrics, model_state)


def predict(model: Any, normalise: Any, variables: Any, inputs: Any) -> dict:
    """{"image": f32[B, Y, X, C] in 0..1} -> {"logits", "probabilities": f32[B, N]}."""
    image = normalise(None, {"image": inputs["image"]})["image"]
    logits = model.apply(variables, image).astype(jnp.float32)
    return {"logits": logits, "probabilities": jax.nn.softmax(logits)}


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> loss (nats) and accuracy, by image."""
    return cross_entropy(outputs["logits"], batch["label"], batch["mask"])[1]


def encode(data: labelled.Images, value: Any) -> dict:
    """A PIL image, u8 or f32[Y, X, C] in 0..1 -> f32[1, Y, X, C] in 0..1, in the size of the training pictures."""
    return {"image": labelled.picture(value, data.shape)[None]}


def decode(data: labelled.Images, outputs: Any) -> dict:
    """-> the likeliest class, and the five likeliest with their probabilities."""
    p = np.asarray(outputs["probabilities"])[0]
    best = {data.classes[i]: round(float(p[i]), 4) for i in np.argsort(-p)[:5]}
    return {"class": next(iter(best)), "probabilities": best}


if __name__ == "__main__":
    launch.main(train)

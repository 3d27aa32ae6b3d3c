"""Image classification: a picture, one label out of N."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums
from research.core.step import make_rngs
from research.data.images import augment, classification
from research.losses.classification import cross_entropy
from research.models.vision import convnet, lenet, resnet
from research.nn.from_config import choose, from_config
from research.run.run import Run

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
    module, rule_sets = choose(MODELS, cfg.model.name)
    data = classification.load(cfg.data, cfg.seed)
    model = from_config(module, cfg.model, num_classes=len(data.classes))
    changes = dict(cfg.augment)
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, *data.shape)),),
        loss=partial(loss, augment=augment.make(changes, len(data.classes))),
        predict=partial(predict, normalise=augment.make(changes, len(data.classes), train=False)),
        batch_metrics=batch_metrics, rule_sets=rule_sets,
        whole_batch="a resnet's batch statistics are of the whole batch" if cfg.model.name == "resnet" else "",
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


def loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array, *, augment: Any) -> tuple:
    """{"image": f32[B, Y, X, C], "label": i32[B]} -> the term in nats an image, metrics, batch statistics."""
    rngs = make_rngs(key, "augment", "dropout")
    batch = augment(rngs["augment"], batch)
    variables, mutable = {"params": params, **model_state}, list(model_state)
    logits, model_state = model.apply(variables, batch["image"], train=True, mutable=mutable, rngs=rngs)
    terms, metrics = cross_entropy(logits, batch["label"])
    return terms, (metrics, model_state)


def predict(model: Any, variables: Any, inputs: Any, *, normalise: Any) -> dict:
    """{"image": f32[B, Y, X, C] in 0..1} -> {"logits", "probabilities": f32[B, N]}."""
    image = normalise(None, {"image": inputs["image"]})["image"]
    logits = model.apply(variables, image).astype(jnp.float32)
    return {"logits": logits, "probabilities": jax.nn.softmax(logits)}


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> loss (nats) and accuracy, by image."""
    return cross_entropy(outputs["logits"], batch["label"], batch["mask"])[1]


if __name__ == "__main__":
    launch.main(train)

"""Image classification: a picture, one label out of N."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.image_classification import probe
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums
from research.core.step import make_rngs
from research.data.images import augment, classification
from research.evals import f1
from research.interpret import targets
from research.losses.classification import cross_entropy
from research.models.vision import (
    compact_transformer,
    convnet,
    convnext,
    efficientnet,
    googlenet,
    inception_v3,
    lenet,
    resnet,
    vit,
)
from research.nn import frozen_norms
from research.nn.from_config import choose, from_config
from research.run.run import Run

# name -> (module, sharding rules)
MODELS: dict[str, tuple[Any, Mapping[str, Any]]] = {
    "compact_transformer": (compact_transformer.CompactTransformer, compact_transformer.SHARDING),
    "convnet": (convnet.ConvNet, convnet.SHARDING),
    "convnext": (convnext.ConvNeXt, convnext.SHARDING),
    "efficientnet": (efficientnet.EfficientNetLite, efficientnet.SHARDING),
    "googlenet": (googlenet.GoogLeNet, googlenet.SHARDING),
    "inception_v3": (inception_v3.InceptionV3, inception_v3.SHARDING),
    "lenet5": (lenet.LeNet5, {}),
    "mlp": (lenet.MLP, {}),
    "resnet": (resnet.ResNet, resnet.SHARDING),
    "vit": (vit.ViT, vit.SHARDING),
}
BATCH_STATISTICS = ("efficientnet", "googlenet", "inception_v3", "resnet")  # names of models that have them


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    module, rule_sets = choose(MODELS, cfg.model.name)
    data = classification.load(cfg.data, cfg.seed)
    changes, classes = dict(cfg.augment), len(data.classes)
    shape = augment.padded(changes, data.shape)
    sizes = {"num_classes": classes, "image_shape": shape}
    model = from_config(module, cfg.model, **{key: sizes[key] for key in sizes if key in module.__dataclass_fields__})
    normalises = cfg.model.name in BATCH_STATISTICS
    infer, shots = partial(predict, views=augment.make_views(changes, classes)), cfg.get("probe")
    probed = None if shots is None else probe.Probe(partial(infer, model), data, shots)
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, *shape)),),
        loss=partial(loss, augment=augment.make(changes, classes), frozen=cfg.optim.freeze),
        predict=infer,
        batch_metrics=partial(batch_metrics, classes=data.classes if cfg.get("macro_f1") else ()),
        split_metrics=f1.add_macro if cfg.get("macro_f1") else dict, rule_sets=rule_sets,
        whole_batch=f"the batch statistics of a {cfg.model.name} are of the whole batch" if normalises else "",
        evaluator=probed, judged=probe.METRICS, at_end=(probe.SPLIT,) if probed else (), explained=explained,
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
        for split, values in run.evaluate_at_end(state):
            run.log(split, values)
        return run.finish(state)


def loss(
    model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array, *, augment: Any, frozen: str = ""
) -> tuple:
    """{"image": f32[B, Y, X, C], "label": i32[B]} -> the term in nats an image, metrics, batch statistics.

    The statistics of norms whose paths match `frozen` stay as they are, and are used.
    """
    rngs = make_rngs(key, "augment", "dropout")
    batch = augment(rngs["augment"], batch)
    variables, mutable = {"params": params, **model_state}, list(model_state)
    with frozen_norms.fixed(frozen):
        logits, model_state = model.apply(variables, batch["image"], train=True, mutable=mutable, rngs=rngs)
    logits, auxiliary = logits if isinstance(logits, tuple) else (logits, [])
    terms, metrics = cross_entropy(logits, batch["label"])
    for i, head in enumerate(auxiliary, 1):  # whose losses are not the metric's
        value, weight, _ = cross_entropy(head, batch["label"])[0]["loss"]
        terms = {**terms, f"auxiliary{i}": (value, weight, model.auxiliary)}
    return terms, (metrics, model_state)


def predict(model: Any, variables: Any, inputs: Any, *, views: Any) -> dict:
    """{"image": f32[B, Y, X, C] in 0..1} -> {"logits", "probabilities": f32[B, N]}.

    With several views the probabilities are their mean, and the logits its logarithm.
    """
    logits = [model.apply(variables, image).astype(jnp.float32) for image in views(inputs["image"])]
    if len(logits) == 1:
        return {"logits": logits[0], "probabilities": jax.nn.softmax(logits[0])}
    probabilities = sum(map(jax.nn.softmax, logits)) / len(logits)
    return {"logits": jnp.log(jnp.maximum(probabilities, jnp.finfo(jnp.float32).tiny)), "probabilities": probabilities}


def explained(e: Experiment, variables: Any, inputs: Any, *, class_name: str | None = None) -> targets.Target:
    """The logit of a class, by default the top-1's."""

    def logits(variables: Any, image: jax.Array) -> jax.Array:
        return e.predictor.fn(variables, {"image": image})["logits"]

    return targets.class_logit(logits, variables, inputs["image"], e.data.classes, class_name, transformer=e.model)


def batch_metrics(outputs: Any, batch: Any, *, classes: Sequence[str] = ()) -> MetricSums:
    """-> loss (nats) and accuracy, by image; F1 of each of `classes`."""
    counted = batch["label"], batch["mask"]
    metrics = cross_entropy(outputs["logits"], *counted)[1]
    return {**metrics, **f1.by_class(outputs["logits"].argmax(-1), *counted, classes)}


if __name__ == "__main__":
    launch.main(train)

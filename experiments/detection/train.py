"""Object detection: boxes of known classes, by one of four detectors. Each has a file with its network, loss and prediction."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.detection import backbone, checks, detr, faster_rcnn, grid, ssd
from experiments.detection.data import Boxes
from experiments.detection.evaluation import Evaluation
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment, Predictor
from research.core.metrics import MetricSums
from research.data.boxes import augment
from research.generation.boxes import to_picture
from research.interpret import targets
from research.losses.boxes import iou
from research.nn.from_config import choose, from_config
from research.run.run import Run
from research.util.errors import UserError

DETECTORS: dict[str, tuple[Any, Any]] = {
    "grid": (grid.Grid, grid),
    "detr": (detr.DETR, detr),
    "faster_rcnn": (faster_rcnn.FasterRCNN, faster_rcnn),
    "ssd": (ssd.SSD, ssd),
}
SHARDING = {"fsdp": ((r"kernel$", "fsdp"),)}


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    module, detector = choose(DETECTORS, cfg.model.name)
    data = Boxes(cfg.data, cfg.seed, cfg.found.least_score)
    model = from_config(module, cfg.model, num_classes=len(data.classes))
    loss_options, found = _options(cfg, "loss", detector.Loss), _options(cfg, "found", detector.Found)
    _check(cfg, found)
    detector.check(model, loss_options, data.shape)
    fn = partial(predict, detector=detector, options=found)
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, *data.shape)),),
        loss=partial(loss, detector=detector, change=augment.make(dict(cfg.augment)), options=loss_options),
        predict=fn, batch_metrics=batch_metrics, rule_sets=SHARDING,
        predictor=Predictor(partial(fn, model), data.codec),
        evaluator=Evaluation(partial(fn, model), data), judged=Evaluation.METRICS, measured=list(data.held_out),
        explained=partial(explained, detector=detector, options=found),
        whole_batch="batch statistics are of the whole batch",
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
    model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array, *, detector: Any, change: Any, options: Any
) -> tuple:
    """A batch as `Boxes` has it -> the detector's terms, metrics, batch statistics."""
    return detector.loss(model, params, model_state, change(key, batch), key, options)


def predict(model: Any, variables: Any, inputs: Any, *, detector: Any, options: Any) -> dict:
    """{"image": f32[B, Y, X, C] in 0..1, "size": i32[B, 2]} -> the K best boxes, in the pictures' own pixels, best first.

    {"boxes": f32[B, K, 4], "labels": i32[B, K], "scores": f32[B, K]}; what fills up has score 0.
    """
    found = detector.predict(model, variables, inputs["image"], options)
    return {**found._asdict(), "boxes": to_picture(found.boxes, inputs["size"], inputs["image"].shape[1:3])}


def explained(
    e: Experiment, variables: Any, inputs: Any, *, detector: Any, options: Any, box: int = 1
) -> targets.Target:
    """The score of the `box`-th best box: the largest product of IoU with it and score of its class, over all candidates.

    After Petsiuk et al. 2021 (2006.03204), who compare boxes so. Suppression has no part in it: it is not continuous.
    """
    image, classes = inputs["image"], e.data.classes
    found = detector.predict(e.model, variables, image, options)
    count = int(((found.scores[0] > 0) & (found.scores[0] >= e.cfg.found.least_score)).sum())
    if not count:
        raise UserError(f"no box is found whose score is at least found.least_score = {e.cfg.found.least_score}")
    chosen = targets.number("box", box, 1, count) - 1
    place, label = found.boxes[0, chosen], found.labels[0, chosen]

    def score(variables: Any, image: jax.Array) -> jax.Array:
        boxes, scores = detector.candidates(e.model, variables, image)
        return (iou(boxes, place) * scores[..., label]).max(-1)

    x1, y1, x2, y2 = to_picture(place[None, None], inputs["size"], image.shape[1:3])[0, 0]
    name = f"box {box} of {count}: {classes[int(label)]}, score {found.scores[0, chosen]:.4f}"
    fact = f"{name}, at {x1:.1f}, {y1:.1f}, {x2:.1f}, {y2:.1f}"
    return targets.Target(score, image, "score", [fact], [fact], features=backbone.FEATURES)


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """None: average precision is of whole splits, and measured by the evaluator."""
    return {}


def _options(cfg: Any, name: str, cls: Any) -> Any:
    """The group `name` of the config as the detector's options. Raises UserError if it is another detector's."""
    if missing := [key for key in cls._fields if key not in cfg[name]]:
        raise UserError(
            f"model.name = {cfg.model.name!r} needs {name}.{missing[0]}: begin with a config of that detector, or with "
            f"base(model=dict(name={cfg.model.name!r}))"
        )
    return cls(**{key: cfg[name][key] for key in cls._fields})


def _check(cfg: Any, found: Any) -> None:
    if cfg.dtype != "float32":
        raise UserError(f"dtype = {cfg.dtype!r}: it would round boxes to whole pixels and worse; set it to 'float32'")
    checks.within("found", found, **{key: (1, 1_000) if key == "keep" else (0, 1) for key in found._fields})
    checks.within("found", cfg.found, least_score=(0, 1))


if __name__ == "__main__":
    launch.main(train)

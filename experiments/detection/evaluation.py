"""Average precision of whole splits, the boxes as JSON, and a picture of some of them."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.detection.data import Boxes
from research.core.experiment import Evaluated
from research.evals import detection

SHOWN = 20  # classes whose precision is a metric of its own; all of them are in the file


class Evaluation:
    """The evaluator: COCO's and VOC's average precision of a part, by class; boxes are compared in the pictures' own pixels.

    fn  (variables, {"image", "size"}) -> {"boxes": f32[B, K, 4], "labels": i32[B, K], "scores": f32[B, K]}
    """

    METRICS = (*detection.METRICS, "ap50_*")

    def __init__(self, fn: Callable, data: Boxes):
        self._fn, self._data = jax.jit(fn), data

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        batches, found = self._data.held_out[split], []
        for i in range(len(batches)):
            batch = batches.batch(i)
            outputs = jax.device_get(self._fn(state.variables, {name: batch[name] for name in self._data.codec.inputs}))
            for row in np.flatnonzero(batch["mask"]):
                real = outputs["scores"][row] > 0
                parts = (outputs[name][row][real] for name in ("boxes", "labels", "scores"))
                found.append(detection.Detections(*parts))
            after_batch()
        source = self._data.sources[split]
        truths = [source.truth(i) for i in range(len(source))]
        means, by_class = detection.summary(found, truths, self._data.classes)
        if len(self._data.classes) <= SHOWN:
            means |= {f"ap50_{name}": aps["map50"] for name, aps in by_class.items()}
        return Evaluated(means, {f"average_precision_{split}.json": partial(_write, by_class)})


def _write(by_class: Mapping[str, Mapping[str, float]], path: Path) -> None:
    rounded = {
        name: {k: None if np.isnan(v) else round(v, 6) for k, v in aps.items()} for name, aps in by_class.items()
    }
    path.write_text(json.dumps(rounded, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

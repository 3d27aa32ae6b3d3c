"""How well another form of a model agrees with the model, and how good the model is for each class."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from research.core.experiment import Experiment
from research.interop import stablehlo

MOST = 10_000  # examples of a split that are looked at
FEW = 512  # that a form is compared on

Fn = Callable[[Mapping], Mapping]  # {name: array} -> {name: array}


def measure(fn: Fn, model: Fn, e: Experiment) -> dict[str, Any]:
    """Compares `fn` with the model of an experiment on held-out data, else on random inputs of two batch sizes.

    "largest_difference" is of any number of an output; "agreement" the share of places where the largest entry of the last axis,
    or an integer, is the same; "on" says of what.
    """
    codec, count, largest, same, places = e.predictor.codec, 0, 0.0, 0, 0
    split, batches = held_out(e)
    inputs = ({name: batch[name] for name in codec.inputs} for batch in batches)
    if not split:
        inputs = (stablehlo.example(codec, batch, 8, jax.random.key(batch)) for batch in (1, 3))
    for each in inputs:
        expected, found = jax.device_get((model(each), fn(each)))
        for name, x in expected.items():
            largest = np.maximum(largest, _differences(x, found[name]).max(initial=0))  # NaN stays
            a, b = (_choice(np.asarray(values)) for values in (x, found[name]))
            same, places = same + int(np.sum(a == b)), places + a.size
        count += len(next(iter(each.values())))
        if count >= FEW:
            break
    on = f"{count:,} examples of {split}" if split else "random inputs"
    return {"on": on, "largest_difference": float(largest), "agreement": same / max(places, 1)}


def line(form: str, found: Mapping[str, Any]) -> str:
    """What `measure` found of a form, and what a row takes if that was timed, as a sentence."""
    text = (
        f"{form} against the run, on {found['on']}: largest difference {found['largest_difference']:.1e}, "
        f"the same choice in {found['agreement']:.2%}"
    )
    if times := found.get("milliseconds"):
        text += f"; a row takes {times[form]:.3g} ms on one core, by StableHLO {times['stablehlo']:.3g} ms"
    return text


def by_class(model: Fn, e: Experiment) -> dict[str, Any] | None:
    """{"split", "classes": {name: {"examples", "accuracy"}}} of a classifier on held-out data; None for another model."""
    split, batches = held_out(e)
    classes = getattr(e.data, "classes", None)
    right, counts, seen = np.zeros(len(classes or ())), np.zeros(len(classes or ())), 0
    for batch in batches if classes else ():
        outputs = jax.device_get(model({name: batch[name] for name in e.predictor.codec.inputs}))
        label, mask = batch.get("label"), np.asarray(batch["mask"]) > 0
        if label is None or np.ndim(label) != 1 or "probabilities" not in outputs:
            return None
        hits = outputs["probabilities"].argmax(-1) == label
        np.add.at(counts, label[mask], 1)
        np.add.at(right, label[mask], hits[mask])
        seen += len(label)
        if seen >= MOST:
            break
    if not seen:
        return None
    rows = zip(classes, counts, right, strict=True)
    return {
        "split": split,
        "classes": {str(name): {"examples": int(n), "accuracy": float(k / n) if n else None} for name, n, k in rows},
    }


def held_out(e: Experiment) -> tuple[str, Iterator[Mapping]]:
    """A split whose batches have the model's inputs, and those; "" and nothing if there is none."""
    for split in sorted(e.evals, key=lambda name: name != "valid"):
        batches = e.evals[split]
        if all(name in batches.batch(0) for name in e.predictor.codec.inputs):
            return split, (batches.batch(i) for i in range(len(batches)))
    return "", iter(())


def _differences(a: Any, b: Any) -> np.ndarray:
    """Absolute, f64; 0 where both are the same infinity or both NaN, and NaN where one of them is."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    with np.errstate(invalid="ignore"):
        return np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))


def _choice(values: np.ndarray) -> np.ndarray:
    return values.argmax(-1) if values.dtype.kind == "f" and values.ndim > 1 else values.round(2)

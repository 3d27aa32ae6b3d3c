"""A linear probe and prototypes of what the layer `head` reads: how good a network's embeddings are as they stand."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from research.core.experiment import Evaluated
from research.data.images.classification import ImageClassification
from research.data.pipeline import EvalBatches
from research.evals import classification, probe
from research.util.errors import UserError

SPLIT = "probe"
DRAWS = 20  # of few examples, whose accuracies are averaged

METRICS = ("linear_*", "prototypes_*", "*_shot_*")


class Probe:
    """The evaluator of the split `probe`; of the others it measures nothing.

    A linear probe and prototypes of all training pictures, measured on the held-out parts, and prototypes of `shots` pictures
    a class. The probe's penalty is chosen on the validation part, if there is one. Pictures are as in evaluation.

    predict  (variables, {"image": f32[B, Y, X, C]}) -> outputs, by a module whose last layer is `head`
    """

    def __init__(self, predict: Callable, data: ImageClassification, shots: Sequence[int]):
        self._embed, self._data, self._shots = jax.jit(embedding(predict)), data, shots
        train = EvalBatches(data.train.source, next(iter(data.evals.values())).batch_size)
        self._parts = {"train": train, **{name: part for name, part in data.evals.items() if name in ("valid", "test")}}

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        if split != SPLIT:
            return Evaluated({})
        parts = {name: self._embedded(state.variables, part, after_batch) for name, part in self._parts.items()}
        train, N = parts.pop("train"), len(self._data.classes)
        means, linear = probe.prototypes(train, N), probe.linear_probe(train, parts.get("valid"))
        values: dict[str, float] = {}
        for name, (rows, true) in parts.items():
            for kind, predicted in {"linear": linear(rows), "prototypes": probe.nearest_prototype(rows, means)}.items():
                scores = classification.report(classification.confusion_matrix(true, predicted, N))
                values |= {f"{kind}_{name}_{key}": scores[key] for key in ("accuracy", "macro_f1")}
        for shots in self._shots:
            drawn = [probe.draw(train.labels, shots, seed) for seed in range(DRAWS)]
            few = [probe.prototypes(probe.Examples(*(x[chosen] for x in train)), N) for chosen in drawn]
            for name, (rows, true) in parts.items():
                accuracies = [np.mean(probe.nearest_prototype(rows, each) == true) for each in few]
                values[f"{shots}_shot_{name}_accuracy"] = float(np.mean(accuracies))
                values[f"{shots}_shot_{name}_sd"] = float(np.std(accuracies))
        return Evaluated(values)

    def _embedded(self, variables: Any, part: EvalBatches, after_batch: Callable) -> probe.Examples:
        rows, labels = [], []
        for i in range(len(part)):
            batch = part.batch(i)
            real = batch["mask"] > 0
            rows.append(np.asarray(self._embed(variables, {"image": batch["image"]}), np.float64)[real])
            labels.append(batch["label"][real])
            after_batch()
        return probe.Examples(np.concatenate(rows), np.concatenate(labels))


def embedding(predict: Callable) -> Callable:
    """`predict` -> (variables, inputs) -> what the module's layer `head` reads, f[B, D]; of several views that of the first.

    Raises UserError, while it is traced, if there is no such layer.
    """

    def embed(variables: Any, inputs: Any) -> jax.Array:
        read = []

        def call(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            if context.module.path == ("head",) and context.method_name == "__call__":
                read.append(args[0])
            return next_fun(*args, **kwargs)

        with nn.intercept_methods(call):
            predict(variables, inputs)
        if not read:
            raise UserError("probe: the model has no last layer `head` whose inputs could be its embeddings")
        return read[0].reshape(len(read[0]), -1)

    return embed

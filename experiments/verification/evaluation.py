"""Pairs of held-out classes: error rates over all thresholds, at validation's own, and one-shot runs."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.verification.data import Verification, pairs
from research.core.experiment import Evaluated
from research.evals import verification
from research.util import figures

ONE_SHOT = "one_shot"
ACCEPTED = 0.01  # the rate of false acceptances at which true acceptances are reported


class Evaluation:
    """The evaluator: of every pair of a part's pictures the equal error rate, and true acceptances where 1 % are false.

    Of the test part besides the two error rates at the threshold of validation's equal error: what a user would meet. Of
    one-shot runs the share of wrong answers.

    fn  (variables, {"image": f32[B, Y, X, C]}) -> {"embedding": f32[B, D]}
    """

    METRICS = ("equal_error", "true_at_1%", "falsely_accepted", "falsely_rejected", "error", "best_run", "worst_run")

    def __init__(self, fn: Callable, data: Verification):
        self._fn, self._data = jax.jit(fn), data
        self.splits = [*data.held_out, *([ONE_SHOT] if data.runs else [])]

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        if split == ONE_SHOT:
            errors = self._data.runs.errors(partial(self._embeddings, state.variables))
            values = {"error": errors.mean(), "best_run": errors.min(), "worst_run": errors.max()}
            return Evaluated({name: float(value) for name, value in values.items()})
        scores, same = self._pairs(state.variables, split, after_batch)
        error, _ = verification.equal_error(scores, same)
        false, true, _ = verification.rates(scores, same)
        values = {"equal_error": error, "true_at_1%": float(np.interp(ACCEPTED, false, true))}
        if split == "test":
            _, threshold = verification.equal_error(*self._pairs(state.variables, "valid", after_batch))
            accepted, rejected = verification.errors_at(threshold, scores, same)
            values |= {"falsely_accepted": accepted, "falsely_rejected": rejected}
        return Evaluated(values, {f"roc_{split}.png": partial(_draw, false, true, error)})

    def _pairs(self, variables: Mapping, split: str, after_batch: Callable[[], Any]) -> tuple[np.ndarray, np.ndarray]:
        batches, rows, labels = self._data.held_out[split], [], []
        for i in range(len(batches)):
            batch = batches.batch(i)
            real = batch["mask"] > 0
            rows.append(np.asarray(self._fn(variables, {"image": batch["image"]})["embedding"])[real])
            labels.append(batch["label"][real])
            after_batch()
        return pairs(np.concatenate(rows), np.concatenate(labels))

    def _embeddings(self, variables: Mapping, pictures: np.ndarray) -> np.ndarray:
        return np.asarray(self._fn(variables, {"image": pictures})["embedding"])


def _draw(false: np.ndarray, true: np.ndarray, error: float, path: Path) -> None:
    figure = Figure(figsize=(4, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(
        xlabel="different pairs accepted", ylabel="same pairs accepted", xscale="log", xlim=(1e-4, 1), ylim=(0, 1)
    )
    axes.plot(np.maximum(false, 1e-5), true, color="tab:blue")
    axes.plot([error], [1 - error], "o", color="tab:red", label=f"equal error {error:.3f}")
    axes.legend(loc="lower right", frameon=False)
    figures.save(figure, path, dpi=120)

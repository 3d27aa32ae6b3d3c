"""Whether a classifier may replace another: not worse on old data, and better on new."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.state import TrainState
from research.data import codecs
from research.data.images.classification import ImageClassification
from research.data.text.classification import TextClassification
from research.evals import paired
from research.interop import stablehlo
from research.util.errors import UserError
from research.util.nested import plain

CHUNK = 512  # training rows that are looked at together


class Model(NamedTuple):
    """A run as one of its checkpoints left it."""

    experiment: Experiment
    state: TrainState


class Comparison(NamedTuple):
    """What two models make of the same rows. `left_out` were among the training rows of one of them and do not count.

    `wins` are the rows that only the candidate has right, `losses` those that only the current model has right; `low` and `high`
    bound the difference of the accuracies, each one-sided at the level; `p` is of McNemar's exact test that it is better.
    """

    rows: int
    left_out: int
    current: float
    candidate: float
    wins: int
    losses: int
    low: float
    high: float
    p: float

    @property
    def difference(self) -> float:
        return (self.wins - self.losses) / self.rows


def check_pair(candidate: Model, current: Model) -> None:
    """Raises UserError unless both are classifiers of pictures, or of texts, with the same classes and the same inputs."""
    for e in (candidate.experiment, current.experiment):
        if not isinstance(e.data, ImageClassification | TextClassification):
            raise UserError(
                f"{e.cfg.name}: only runs of image_classification and text_classification are compared row by row; "
                "compare others by `almanac evaluate`"
            )
    ours, theirs = (model.experiment.data for model in (candidate, current))
    if ours.classes != theirs.classes:
        raise UserError(
            f"the candidate has the classes {', '.join(ours.classes)}, the current model {', '.join(theirs.classes)}"
        )
    if codecs.to_json(ours.codec) != codecs.to_json(theirs.codec):
        raise UserError(
            "the two models do not read the same inputs: a picture's size, or a text's vocabulary and length, differs; train the "
            "candidate from the current run's config and weights"
        )


def new_rows(model: Model, dataset: Path) -> Any:
    """The rows that a set of feedback holds out, as batches of the model's data."""
    e = model.experiment
    keys = {**plain(e.cfg.data), "source": "feedback", "path": str(dataset), "part": "test", "classes": None}
    return e.data.eval_batches(track_reads(keys))


def trained_on(model: Model) -> set[bytes]:
    """The digests of the rows that a model has learnt from."""
    e = model.experiment
    rows, inputs = e.data.training, tuple(e.predictor.codec.inputs)
    chunks = (np.arange(start, min(start + CHUNK, len(rows))) for start in range(0, len(rows), CHUNK))
    return {digest for chunk in chunks for digest in _digests(rows.gather(chunk, 0), inputs)}


def compare(candidate: Model, current: Model, batches: Any, known: set[bytes], level: float) -> Comparison:
    """Both models on the rows of `batches` whose digests are not in `known`. Raises UserError if none is left."""
    right, left_out = np.zeros((0, 2), bool), 0
    inputs = tuple(current.experiment.predictor.codec.inputs)
    predictors = [jax.jit(model.experiment.predictor.fn) for model in (current, candidate)]
    for batch in (batches.batch(i) for i in range(len(batches))):
        given = {name: batch[name] for name in inputs}
        real = batch["mask"] > 0
        unseen = real & np.array([digest not in known for digest in _digests(batch, inputs)])
        left_out += int(real.sum() - unseen.sum())
        choices = [
            np.asarray(fn(model.state.variables, given)["probabilities"]).argmax(-1)
            for fn, model in zip(predictors, (current, candidate), strict=True)
        ]
        hits = np.stack(choices, -1) == batch["label"][:, None]
        right = np.concatenate([right, hits[unseen]])
    if not len(right):
        raise UserError(f"all {left_out:,} rows are training rows of one of the models: there is nothing to compare on")
    wins, losses = int((right[:, 1] & ~right[:, 0]).sum()), int((right[:, 0] & ~right[:, 1]).sum())
    low, high = paired.score_interval(wins, losses, len(right), level)
    before, after = right.mean(0).tolist()
    return Comparison(len(right), left_out, before, after, wins, losses, low, high, paired.mcnemar(wins, losses))


def objection(old: Comparison, new: Comparison | None, margin: float, level: float) -> str:
    """Why the candidate is refused, in one line; empty if it is not."""
    if old.low < -margin:
        least = -paired.score_interval(0, 0, old.rows, level)[0]
        few = f"; {old.rows:,} rows cannot show less than {least:.4f}: use more" if least > margin else ""
        return f"on old data it may be worse by {-old.low:.4f}, more than the margin of {margin:g}{few}"
    if new is not None and not new.p < level:
        return f"on new data it is not shown to be better: p = {new.p:.3g}, at a level of {level:g}"
    return ""


def describe(model: Model) -> dict[str, Any]:
    """Its experiment, its step, and the SHA-256 of the names, types, shapes and bytes of its parameters."""
    digest = hashlib.sha256()
    for name, x in sorted(jax.device_get(stablehlo.flat(model.state.variables)).items()):
        digest.update(f"{name} {x.dtype} {x.shape}".encode() + np.ascontiguousarray(x).tobytes())
    return {"name": model.experiment.cfg.name, "step": int(model.state.step), "parameters_sha256": digest.hexdigest()}


def _digests(batch: Mapping[str, np.ndarray], inputs: tuple[str, ...]) -> Iterator[bytes]:
    """A digest of each row's inputs; of tokens without what fills them up, which differs with the batch."""
    for i in range(len(batch["label"])):
        row = {name: batch[name][i] for name in inputs}
        if "length" in row:
            row["tokens"] = row["tokens"][: row["length"]]
        yield hashlib.blake2b(
            b"".join(np.ascontiguousarray(x).tobytes() for x in row.values()), digest_size=16
        ).digest()

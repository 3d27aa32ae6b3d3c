"""Pictures by class, whose classes are divided: some to train on, others to verify and to test with."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image
from scipy.spatial import KDTree

from research.core.experiment import Baseline, Dataset
from research.data import tfds_records
from research.data.images import labelled
from research.data.images.picture_codecs import PictureEmbedding
from research.data.pipeline import Arrays, EvalBatches, Source, TrainBatches
from research.evals import verification
from research.util.errors import UserError

OMNIGLOT = {"omniglot1": "background1", "omniglot2": "background2"}
SIZE = 28  # pixels that Omniglot's 105 are scaled to, as in the field's few-shot work
MOST = 1_000  # pictures of a part, of which every pair is scored


class Labelled(Source, Protocol):
    def labels(self) -> np.ndarray: ...


class Pictures(Arrays):
    """Pictures f32[n, Y, X, C] in memory with their classes i32[n]."""

    def __init__(self, image: np.ndarray, label: np.ndarray):
        super().__init__({"image": image, "label": label.astype(np.int32)})

    def labels(self) -> np.ndarray:
        return self.arrays["label"]


class OfClasses:
    """The examples of some classes of a source, numbered in their order."""

    def __init__(self, source: Labelled, classes: np.ndarray):
        old = source.labels()
        number = {c: i for i, c in enumerate(classes.tolist())}
        self._source, self._rows = source, np.flatnonzero(np.isin(old, classes))
        self._labels = np.array([number[c] for c in old[self._rows].tolist()], np.int32)

    def __len__(self) -> int:
        return len(self._rows)

    def labels(self) -> np.ndarray:
        return self._labels

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        return {**self._source.gather(self._rows[indices], epoch), "label": self._labels[indices]}


class SeveralOfEach(TrainBatches):
    """Batches of `per_class` examples of each of some classes, which are drawn anew for each step.

    Raises UserError if a batch has no such form, or there are fewer classes than it holds.
    """

    def __init__(self, source: OfClasses, batch_size: int, per_class: int, seed: int):
        super().__init__(source, batch_size, seed)
        order = np.argsort(source.labels(), kind="stable")
        self._members = np.split(order, np.flatnonzero(np.diff(source.labels()[order])) + 1)
        self._per_class, classes = per_class, batch_size // max(1, per_class)
        if per_class < 2 or batch_size % per_class:
            raise UserError(
                f"data.per_class = {per_class}: at least 2, and a divisor of data.batch_size = {batch_size}"
            )
        if classes < 2 or classes > len(self._members):
            raise UserError(
                f"data.batch_size = {batch_size} holds {classes} classes of {per_class}; there are "
                f"{len(self._members)} to train on, and it needs 2"
            )
        self._classes = classes

    def numbers(self, step: int, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((self.seed, step))
        chosen = rng.choice(len(self._members), self._classes, replace=False)
        drawn = [rng.choice(self._members[c], self._per_class, len(self._members[c]) < self._per_class) for c in chosen]
        indices = np.concatenate(drawn)[rows]
        return indices, np.full(len(indices), step * self.batch_size // self.epoch)


class Runs(NamedTuple):
    """One-shot runs: the known pictures f32[R, N, Y, X, C], one a class, the asked, and which known one is right, i64[R, N]."""

    known: np.ndarray
    asked: np.ndarray
    answers: np.ndarray

    def errors(self, embed: Any) -> np.ndarray:
        """The share of asked pictures whose most alike known one, by `embed` (f32[n, Y, X, C] -> f32[n, D]), is wrong: f64[R]."""
        known, asked = (_unit(embed(p.reshape(-1, *p.shape[2:]))).reshape(*p.shape[:2], -1) for p in self[:2])
        return (np.einsum("rad,rkd->rak", asked, known).argmax(-1) != self.answers).mean(1)

    def hausdorff_errors(self) -> np.ndarray:
        """The same by the modified Hausdorff distance of the inks, each moved so that its mean is 0, as Lake et al. have it."""
        known, asked = ([[_ink(p) for p in run] for run in pictures] for pictures in self[:2])
        nearest = [
            [np.argmin([verification.modified_hausdorff(a, k) for k in ks]) for a in run]
            for ks, run in zip(known, asked, strict=True)
        ]
        return (np.array(nearest) != self.answers).mean(1)


class Verification(Dataset):
    """Batches {"image": f32[B, Y, X, C] in 0..1, "label": i32[B]}; `held_out`: parts of classes that are not trained on."""

    def __init__(self, cfg: Mapping[str, Any], seed: int):
        source, names, turns, self.runs, self.report = _load(cfg)
        several = np.flatnonzero(np.bincount(source.labels(), minlength=len(names))[: len(names)] > 1)
        parts = divide([names[c] for c in several.tolist()], cfg["valid_classes"], cfg["test_classes"])
        chosen = {part: several[rows] for part, rows in parts.items() if len(rows)}
        upright = chosen.pop("train")
        trained = np.concatenate([upright + len(names) * turn for turn in range(turns)])
        self.num_classes = len(trained)
        self.train = SeveralOfEach(OfClasses(source, trained), cfg["batch_size"], cfg["per_class"], seed)
        self.held_out = {part: _held_out(OfClasses(source, c), cfg["eval_batch_size"]) for part, c in chosen.items()}
        self.evals: dict[str, Any] = {}
        self.shape = self.train.spec["image"].shape[1:]
        self.codec = PictureEmbedding(tuple(self.shape))
        words = [f"{self.num_classes} to train on", *(f"{len(c)} to {part}" for part, c in chosen.items())]
        self.report.append(f"classes  {', '.join(words)}")
        if few := len(names) - len(several):
            self.report.append(f"left out {few} classes with fewer than two pictures")

    def baselines(self) -> dict[str, Baseline]:
        """Of pixels in place of embeddings."""
        values = {}
        for part, batches in self.held_out.items():
            batch = batches.source.gather(np.arange(len(batches.source)), 0)
            scores, same = pairs(_pixels(batch["image"]), batch["label"])
            values[f"{part}/equal_error"] = verification.equal_error(scores, same)[0]
        if self.runs:
            values["one_shot/error"] = float(self.runs.errors(_pixels).mean())
        baselines = {name: {"cosine of the pixels": value} for name, value in values.items()}
        if self.runs:  # of the pictures as they are, to which the published value belongs
            baselines["one_shot/error"]["modified Hausdorff"] = float(_runs(None).hausdorff_errors().mean())
        return {name: Baseline(by_predictor) for name, by_predictor in baselines.items()}


def pairs(embeddings: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f[n, D], i[n] -> the cosine of each pair, f[n (n - 1) / 2], and whether it is of one class.

    >>> pairs(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), np.array([0, 0, 1]))
    (array([1., 0., 0.]), array([ True, False, False]))
    """
    unit, (a, b) = _unit(np.asarray(embeddings)), np.triu_indices(len(labels), 1)
    return (unit @ unit.T)[a, b], labels[a] == labels[b]


def divide(names: Sequence[str], valid: float, test: float) -> dict[str, np.ndarray]:
    """Numbers of the classes of train, valid and test: shares of all, by the hashes of their names.

    Raises UserError for shares that are none, or leave fewer than two classes to train on or to verify with.
    """
    if not (valid > 0 and test >= 0 and valid + test < 1):
        raise UserError(
            f"data.valid_classes = {valid}, data.test_classes = {test}: above 0, not below 0, and their sum below 1"
        )
    order = np.argsort(
        [hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest() for name in names], kind="stable"
    )
    first = round(len(names) * valid)
    second = first + round(len(names) * test)
    parts = {"valid": order[:first], "test": order[first:second], "train": order[second:]}
    for part, rows in parts.items():
        if len(rows) == 1 or not len(rows) and part != "test":
            raise UserError(
                f"{len(names)} classes leave {len(rows)} for {part}, which needs two; change data.valid_classes"
            )
    return {part: np.sort(rows) for part, rows in parts.items()}


def _load(cfg: Mapping[str, Any]) -> tuple[Labelled, Sequence[str], int, Runs | None, list[str]]:
    """-> the pictures; the names of their classes; how many times the classes stand there; the one-shot runs; the report.

    Omniglot's characters stand there four times: turned by a right angle they are new classes, for training alone.
    """
    if cfg["source"] not in OMNIGLOT:
        images = labelled.load(cfg)
        parts = [part for part in (images.train, images.valid, images.test) if part is not None]
        report = [line for line in images.report if not line.startswith("split")]
        return labelled.Joined(parts, np.arange(len(images.classes))), images.classes, 1, None, report
    pictures, characters, _ = _omniglot(OMNIGLOT[cfg["source"]])
    names, labels = np.unique(characters, return_inverse=True)
    turned = np.concatenate([np.rot90(pictures, turn, axes=(1, 2)) for turn in range(4)])
    numbers = np.concatenate([labels + len(names) * turn for turn in range(4)])
    report = [
        f"source   Omniglot, {OMNIGLOT[cfg['source']]}: {len(labels):,} pictures of {len(names)} characters, {SIZE} x {SIZE}",
        "turned   by right angles, as three further classes each to train on",
    ]
    return Pictures(turned, numbers), names.tolist(), 4, _runs(), report


def _omniglot(split: str, size: int | None = SIZE) -> tuple[np.ndarray, list[str], np.ndarray]:
    """-> pictures f32[n, size, size, 1] in 0..1, their characters, and which are asked. None: of the size that they have."""
    rows = tfds_records.examples("omniglot_small", split)
    pictures = [Image.fromarray(row["image"][..., 0]) for row in rows]
    if size is not None:
        pictures = [picture.resize((size, size), Image.Resampling.BOX) for picture in pictures]
    names = [row["character"].decode("utf-8") for row in rows]
    arrays = np.stack([np.asarray(picture) for picture in pictures])
    return arrays[..., None].astype(np.float32) / 255, names, np.array([row["asked"] for row in rows])


def _runs(size: int | None = SIZE) -> Runs:
    pictures, characters, asked = _omniglot("runs", size)
    runs = np.array([name.partition("/")[0] for name in characters])
    known, questions, answers = [], [], []
    for run in np.unique(runs):
        ours, theirs = np.flatnonzero((runs == run) & ~asked), np.flatnonzero((runs == run) & asked)
        place = {characters[row]: i for i, row in enumerate(ours)}
        known.append(pictures[ours])
        questions.append(pictures[theirs])
        answers.append([place[characters[row]] for row in theirs])
    return Runs(np.stack(known), np.stack(questions), np.array(answers))


def _held_out(source: OfClasses, batch_size: int) -> EvalBatches:
    """Batches of MOST pictures at most, evenly spaced among those sorted by class."""
    rows = np.argsort(source.labels(), kind="stable")
    if len(rows) > MOST:
        rows = rows[np.linspace(0, len(rows) - 1, MOST).astype(int)]
    return EvalBatches(Pictures(**source.gather(rows)), batch_size)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def _ink(picture: np.ndarray) -> KDTree:
    places = np.argwhere(picture[..., 0] > 0)
    return KDTree(places - places.mean(0))


def _pixels(pictures: np.ndarray) -> np.ndarray:
    return pictures.reshape(len(pictures), -1)

"""Pictures with two labels each, drawn from those of a data set with one: two side by side, or one somewhere with its box."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from research.core.experiment import Baseline, Dataset
from research.data import codecs, top
from research.data.images import labelled
from research.data.images.picture_codecs import Picture
from research.data.pipeline import EvalBatches, TrainBatches
from research.util.errors import UserError, nearest

SCENES = {  # data.scene: {task: its kind}
    "pair": {"left": "class", "right": "class"},
    "boxed": {"digit": "class", "box": "box"},
}
EVAL_SEED = 0  # of what is drawn for evaluation: every run is measured with the same pictures
MOST = 2_000  # pictures of training from which baselines are computed


class Scenes:
    """A source of {"image": f32[n, Y, X, C]} with each task's label, a pure function of (seed, epoch, index).

    pair   picture `index` in the upper left corner and one drawn from all in the lower right, the lighter pixel where they meet
    boxed  picture `index` at a drawn place, and "box" f32[n, 4]: see `ink_box`

    Each is scaled to a drawn side, from the first to the last of `sides`.
    """

    def __init__(self, images: labelled.Labelled, scene: str, canvas: int, sides: tuple[int, int], seed: int):
        self._images, self._canvas, self._sides, self._seed = images, canvas, sides, seed
        self._draw: Callable = {"pair": self._pairs, "boxed": self._boxed}[scene]

    def __len__(self) -> int:
        return len(self._images)

    def gather(self, indices: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        rngs = [np.random.default_rng((self._seed, epoch, int(i))) for i in indices]
        first = self._images.gather(indices, 0)
        empty = np.zeros((len(indices), self._canvas, self._canvas, first["image"].shape[-1]), np.float32)
        return self._draw(rngs, first, empty)

    def _pairs(self, rngs: list, first: dict, empty: np.ndarray) -> dict[str, np.ndarray]:
        second = self._images.gather(np.array([rng.integers(len(self)) for rng in rngs]), 0)
        for canvas, rng, left, right in zip(empty, rngs, first["image"], second["image"], strict=True):
            place(canvas, scaled(left, self._side(rng)), 0, 0)
            side = self._side(rng)
            place(canvas, scaled(right, side), self._canvas - side, self._canvas - side)
        return {"image": empty, "left": first["label"], "right": second["label"]}

    def _boxed(self, rngs: list, first: dict, empty: np.ndarray) -> dict[str, np.ndarray]:
        for canvas, rng, picture in zip(empty, rngs, first["image"], strict=True):
            side = self._side(rng)
            place(canvas, scaled(picture, side), *rng.integers(self._canvas - side + 1, size=2))
        return {"image": empty, "digit": first["label"], "box": np.stack([ink_box(canvas) for canvas in empty])}

    def _side(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self._sides[0], self._sides[1] + 1))


def scaled(picture: np.ndarray, side: int) -> np.ndarray:
    """f32[S, S, C] -> f32[side, side, C], each pixel the mean of what it covers."""
    shares = _shares(len(picture), side)
    return np.moveaxis(shares @ np.moveaxis(picture, -1, 0) @ shares.T, 0, -1)


@functools.cache
def _shares(size: int, side: int) -> np.ndarray:
    """The share of each of `size` pixels in each of `side` that cover the same length, f32[side, size]."""
    ends, pixels = np.arange(side + 1)[:, None] * size / side, np.arange(size)
    common = np.minimum(ends[1:], pixels + 1) - np.maximum(ends[:-1], pixels)
    return (np.maximum(common, 0) * side / size).astype(np.float32)


def place(canvas: np.ndarray, picture: np.ndarray, y: int, x: int) -> None:
    """Puts a picture on a canvas, in place: its upper left pixel at (y, x), the lighter pixel of both."""
    part = canvas[y : y + len(picture), x : x + len(picture)]
    np.maximum(part, picture, out=part)


def ink_box(canvas: np.ndarray) -> np.ndarray:
    """The smallest box around what is not black: centre y, centre x, height, width, each a share of the canvas, f32[4].
    Raises UserError if there is none.

    >>> canvas = np.zeros((4, 4, 1)); canvas[1, 0:3] = 1
    >>> ink_box(canvas).tolist()
    [0.375, 0.375, 0.25, 0.75]
    """
    rows, columns = np.nonzero((canvas > 0).any(-1))
    if not len(rows):
        raise UserError("a picture is black: it has no box; remove it from the data")
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    return np.array([top + bottom, left + right, 2 * (bottom - top), 2 * (right - left)], np.float32) / (
        2 * len(canvas)
    )


class MultiTask(Dataset):
    """Batches of `Scenes`. `kinds` {task: "class" or "box"} are those to learn, `heads` {task: outputs}; `shape` is (Y, X, C)."""

    def __init__(self, cfg: Mapping[str, Any], tasks: Sequence[str] | None, seed: int):
        images = labelled.load(cfg)
        scene, canvas, sides = cfg["scene"], cfg["canvas"], tuple(cfg["sides"])
        self.kinds = _kinds(scene, tasks)
        rows, columns, channels = images.shape
        if rows != columns:
            raise UserError(f"{cfg['source']}: pictures of {rows} x {columns} pixels; scenes are made of square ones")
        if not (len(sides) == 2 and 1 <= sides[0] <= sides[1] <= canvas):
            raise UserError(f"data.sides = {sides}: the smallest and the largest side, at most data.canvas = {canvas}")
        self.classes, self.shape = images.classes, (canvas, canvas, channels)
        self.heads = {task: len(self.classes) if kind == "class" else 4 for task, kind in self.kinds.items()}
        parts = {"valid": images.valid, "test": images.test}
        self.train = TrainBatches(Scenes(images.train, scene, canvas, sides, seed), cfg["batch_size"], seed)
        self.evals = {
            name: EvalBatches(Scenes(part, scene, canvas, sides, EVAL_SEED), cfg["eval_batch_size"])
            for name, part in parts.items()
            if part is not None
        }
        if "valid" not in self.evals:
            raise UserError("the data has no validation part; set data.valid_fraction above 0")
        self.report = [*images.report, f"scenes   {scene}, {canvas} x {canvas}, sides {sides[0]} to {sides[1]}"]
        self.codec = PictureTasks(self.shape, tuple(self.kinds.items()), tuple(self.classes))

    def baselines(self) -> dict[str, Baseline]:
        """The most frequent class, and the mean box's mean absolute error, over the training pictures."""
        train = self.train.source.gather(np.arange(min(len(self.train.source), MOST)), 0)
        valid = self.evals["valid"].source.gather(np.arange(len(self.evals["valid"].source)), 0)
        values = {}
        for task, kind in self.kinds.items():
            if kind == "class":
                value = np.mean(valid[task] == np.bincount(train[task]).argmax())
                values[f"valid/{task}_accuracy"] = Baseline({"most frequent class": float(value)})
            else:
                value = np.abs(valid[task] - train[task].mean(0)).mean()
                values[f"valid/{task}_loss"] = Baseline({"mean box": float(value)}, "share of the canvas")
        return values


@codecs.register("picture_tasks")
@dataclasses.dataclass(frozen=True)
class PictureTasks(Picture):
    """A picture <-> what each task finds in it. `kinds` are (task, "class" or "box"), `classes` the classes' names."""

    kinds: tuple[tuple[str, str], ...]
    classes: tuple[str, ...]

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """-> by task its top-1 class and the top five with their probabilities, or the box."""
        rows = {task: np.asarray(outputs[task])[0] for task, _ in self.kinds}
        return {
            task: top.classes(self.classes, rows[task]) if kind == "class" else np.round(rows[task], 4).tolist()
            for task, kind in self.kinds
        }


def _kinds(scene: str, tasks: Sequence[str] | None) -> dict[str, str]:
    if scene not in SCENES:
        raise UserError(f"data.scene = {scene!r}{nearest(str(scene), SCENES)}")
    known = SCENES[scene]
    if tasks is None:
        return dict(known)
    for task in tasks:
        if task not in known:
            raise UserError(f"tasks = {tuple(tasks)}: {task!r} is no task of {scene}{nearest(str(task), known)}")
    if not tasks or len(set(tasks)) < len(tasks):
        raise UserError(f"tasks = {tuple(tasks)}: each once, of {', '.join(known)}; None is all")
    return {task: known[task] for task in tasks}

"""Labelled images as random-access sources: {"image": f32[n, Y, X, C] in 0..1, "label": i32[n]}.

Config: source (`SOURCES`, or `tfds:NAME` for a prepared TFDS data set). For the user's own data
also path and, optionally, valid_fraction and test_fraction (0.1); for files and tfds also size
(pixels, or [Y, X]) and channels (1 or 3); for tfds data_dir. Of any source, classes: names or
numbers of those to keep (None: all), which are labelled 0, 1, ... in the order given.
"""

import dataclasses
import hashlib
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from research.data import feedback_sets, tfds_records, user_files
from research.data.images import image_files
from research.data.images import usps as usps_digits
from research.data.images.image_files import Shape
from research.data.pipeline import Arrays, Source
from research.data.thread_pool import OrderedMap
from research.util.errors import UserError, nearest

Parts = dict[str, np.ndarray]  # train, valid and perhaps test: row numbers

PART = 1 << 20  # bytes of pixels that a thread converts to floats at a time
MOST_CLASSES = 1 << 20  # each has a name and a row of the last layer
IN_MEMORY = 512 << 20  # bytes of pixels up to which all images are decoded at the start


class Labelled(Source, Protocol):
    """A source of {"image", "label"} that knows its labels without decoding images."""

    def labels(self) -> np.ndarray: ...


class ImageSource:
    """Rows of a source of {"image", "label"}, with pixels 0..white scaled to f32 in 0..1.

    `all_labels()` returns the labels of all rows of the source without decoding images.
    """

    def __init__(self, source: Source, rows: np.ndarray, all_labels: Callable[[], np.ndarray], white: float = 255):
        self.source, self.rows, self.white = source, rows, np.float32(white)
        self._all_labels = all_labels
        self._in_parts = OrderedMap(self._divide)

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        batch = self.source.gather(self.rows[indices], epoch)
        return {"image": self.scaled(batch["image"]), "label": batch["label"].astype(np.int32)}

    def labels(self) -> np.ndarray:
        """The labels of all rows, i32[n], in order."""
        return self._all_labels()[self.rows].astype(np.int32)

    def scaled(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels [n, Y, X, C] of the source's dtype -> f32 in 0..1; large batches by several threads."""
        out = np.empty(pixels.shape, np.float32)
        size = max(1, PART * len(pixels) // max(1, pixels.nbytes))
        self._in_parts([(pixels[i : i + size], out[i : i + size]) for i in range(0, len(pixels), size)])
        return out

    def _divide(self, part: tuple[np.ndarray, np.ndarray]) -> None:
        pixels, out = part
        np.divide(pixels, self.white, out=out, dtype=np.float32)


class Joined:
    """Sources one after another, as one; `numbers[label]` replaces each label."""

    def __init__(self, sources: Sequence[Labelled], numbers: np.ndarray):
        self.sources, self.numbers = sources, numbers.astype(np.int32)
        self._ends = np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        which = np.searchsorted(self._ends, indices, side="right")
        out: dict[str, np.ndarray] = {}
        for number in np.unique(which):
            rows = which == number
            start = self._ends[number] - len(self.sources[number])
            for key, values in self.sources[number].gather(np.asarray(indices)[rows] - start, epoch).items():
                out.setdefault(key, np.empty((len(indices), *values.shape[1:]), values.dtype))[rows] = values
        return out | {"label": self.numbers[out["label"]]}

    def labels(self) -> np.ndarray:
        """The labels of all rows, i32[n], in order."""
        return self.numbers[np.concatenate([source.labels() for source in self.sources])]


@dataclasses.dataclass(frozen=True)
class Images:
    """A data set. `valid` and `test` are None if there is none; `shape` is (Y, X, C)."""

    train: Labelled
    valid: Labelled | None
    test: Labelled | None
    classes: tuple[str, ...]
    shape: Shape
    report: list[str]


SOURCES: dict[str, Callable[[Mapping[str, Any]], Images]] = {}


def load(cfg: Mapping[str, Any]) -> Images:
    """The data set `cfg["source"]`. Raises UserError if there is none."""
    source = cfg["source"]
    if not source.startswith("tfds:") and source not in SOURCES:
        raise UserError(f"no image source {source!r}{nearest(source, [*SOURCES, 'tfds:NAME'])}")
    images = _tfds(source.removeprefix("tfds:"), cfg) if source.startswith("tfds:") else SOURCES[source](cfg)
    classes = user_files.option(cfg, "classes", None)
    return images if classes is None else of_classes(images, classes)


def of_classes(images: Images, chosen: Any) -> Images:
    """The examples of the classes `chosen`, names or places in `images.classes`; a number that is a name is that class.

    Raises UserError for a class that is not there or named twice, fewer than two, or a training part without examples.
    """
    if not isinstance(chosen, tuple | list) or len(chosen) < 2:
        raise UserError(f"data.classes = {chosen!r}: two or more names or numbers, as in --config.data.classes=0,1")
    old = np.array([_place(one, images.classes) for one in chosen])
    if twice := [one for place, one in zip(old, chosen, strict=True) if (old == place).sum() > 1]:
        raise UserError(f"data.classes = {chosen!r} has {twice[0]!r} twice")
    numbers = np.zeros(len(images.classes), np.int32)  # those of the others are not used
    numbers[old] = np.arange(len(old))

    def part(source: Labelled | None) -> Labelled | None:
        if source is None or not len(kept := np.flatnonzero(np.isin(source.labels(), old))):
            return None
        return Joined([ImageSource(source, kept, source.labels, white=1)], numbers)

    parts = {name: part(getattr(images, name)) for name in ("train", "valid", "test")}
    counts = ", ".join(f"{len(source):,} {name}" for name, source in parts.items() if source is not None)
    names = tuple(images.classes[i] for i in old)
    report = [*images.report, f"chosen   {', '.join(names)} of {len(images.classes)} classes: {counts or 'no picture'}"]
    return _data_set({name: source for name, source in parts.items() if source}, names, images.shape, report)


def _place(one: Any, classes: tuple[str, ...]) -> int:
    if str(one) in classes:
        return classes.index(str(one))
    if type(one) is int and 0 <= one < len(classes):
        return one
    raise UserError(f"data.classes: there is no class {one!r}{nearest(str(one), classes)}")


def split(names: Sequence[str], labels: np.ndarray, valid: float, test: float) -> Parts:
    """Row numbers of train, valid and test: fractions of every class, chosen by the hashes of the examples' names.

    Deterministic and independent of the order of the names; adding examples moves only the few whose
    rank crosses a boundary. Every class has at least one training example.

    >>> {part: len(rows) for part, rows in split(list("abcd"), np.zeros(4), valid=0.25, test=0.25).items()}
    {'train': 2, 'valid': 1, 'test': 1}
    """
    if not (valid >= 0 and test >= 0 and valid + test < 1):
        raise UserError(
            f"data.valid_fraction = {valid}, data.test_fraction = {test}: neither below 0, their sum below 1"
        )
    hashes = np.array([hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest() for name in names])
    parts: dict[str, list[np.ndarray]] = {"train": [], "valid": [], "test": []}
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(hashes[rows], kind="stable")]
        first = min(int(len(rows) * valid + 0.5), len(rows) - 1)
        second = min(first + int(len(rows) * test + 0.5), len(rows) - 1)
        cut = np.split(rows, [first, second])
        for part, indices in zip(("valid", "test", "train"), cut, strict=True):
            parts[part].append(indices)
    return {part: np.sort(np.concatenate(indices)) for part, indices in parts.items()}


def _source(function: Callable[[Mapping[str, Any]], Images]) -> Callable:
    SOURCES[function.__name__] = function
    return function


@_source
def digits(cfg: Mapping[str, Any]) -> Images:
    """1,797 digits of 8 x 8 pixels (UCI optdigits' test part), as shipped with scikit-learn."""
    from sklearn.datasets import load_digits  # scikit-learn and SciPy are slow to import

    data = load_digits()
    source = Arrays({"image": data.images.astype(np.uint8)[..., None], "label": data.target})
    parts = split([str(i) for i in range(len(source))], data.target, valid=0.1, test=0.1)
    return _images("digits", source, data.target, parts, tuple("0123456789"), (8, 8, 1), white=16)


@_source
def mnist(cfg: Mapping[str, Any]) -> Images:
    """MNIST; the last 5,000 of the training files, or `valid_fraction`, are for validation."""
    return _idx("mnist", cfg)


@_source
def fashion_mnist(cfg: Mapping[str, Any]) -> Images:
    """Fashion-MNIST, split as MNIST."""
    return _idx("fashion_mnist", cfg)


def _idx(name: str, cfg: Mapping[str, Any]) -> Images:
    stored = [tfds_records.arrays(name, part, ("image", "label")) for part in ("train", "test")]
    source = Arrays({key: np.concatenate([part[key] for part in stored]) for key in stored[0]})
    end = len(stored[0]["label"])
    held_out = 5000
    if (fraction := user_files.option(cfg, "valid_fraction", None)) is not None:
        held_out = round(end * fraction)
    if not 0 <= held_out < end:
        raise UserError(f"data.valid_fraction = {fraction}: not below 0, and below 1")
    train, valid, test = np.split(np.arange(len(source)), [end - held_out, end])
    parts = {"train": train, "valid": valid, "test": test}
    classes = tuple(tfds_records.builder(name).info.features["label"].names)
    return _images(name, source, source.arrays["label"], parts, classes, (28, 28, 1))


@_source
def usps(cfg: Mapping[str, Any]) -> Images:
    """USPS digits; `valid_fraction` (0.1) of each class of the training part is for validation."""
    stored = [usps_digits.load(part) for part in ("train", "test")]
    images, labels = (np.concatenate(arrays) for arrays in zip(*stored, strict=True))
    end = len(stored[0][1])
    parts = split([str(i) for i in range(end)], labels[:end], _fractions(cfg)[0], test=0)
    parts["test"] = np.arange(end, len(labels))
    source = Arrays({"image": images, "label": labels})
    return _images("usps", source, labels, parts, tuple("0123456789"), (16, 16, 1), white=1)


@_source
def files(cfg: Mapping[str, Any]) -> Images:
    """The user's own images: one folder per class, or a .csv or .tsv with columns path, label[, split].

    The class folders may be in folders train, valid and test; parts that are not given are cut from train
    by `split`. The default size is the first image's. Links are followed; hidden files and folders are skipped.
    """
    root = user_files.root(cfg)
    if not root.is_dir() and root.suffix.lower() not in user_files.TABLES:
        raise UserError(f"data.path = {root}: want a folder a class, or a .csv or .tsv of path and label")
    rows, faults, others = image_files.folder_rows(root) if root.is_dir() else image_files.table_rows(root)
    shape = shape_option(cfg, image_files.first_size(row.path for row in rows) or (1, 1))
    small = len(rows) * math.prod(shape) <= IN_MEMORY
    rows, pixels, unreadable, several, scaled = image_files.readable(rows, shape, small)
    faults += unreadable
    if not rows:
        why = [*faults, *(line.partition("  ")[2] for line in others), "no file of a class"]
        raise UserError(f"data.path = {root}: no picture found ({why[0]})")
    classes, labels = np.unique([row.label for row in rows], return_inverse=True)
    if small:
        source: Source = Arrays({"image": np.stack(pixels), "label": labels})
    else:
        source = image_files.Files([row.path for row in rows], labels, shape)
    parts = parts_of([row.name for row in rows], [row.part for row in rows], labels, cfg)
    images = _images(str(root), source, labels, parts, tuple(map(str, classes)), shape)
    if scaled:
        images.report.append(
            f"fitted   {scaled:,} pictures of other sizes: scaled to cover this one, cut at the centre"
        )
    if several:
        images.report.append(f"frames   {several:,} pictures have several frames or pages; the first is used")
    images.report.extend([*user_files.listed("skipped ", faults), *others])
    return images


@_source
def feedback(cfg: Mapping[str, Any]) -> Images:
    """A set of feedback (`feedback_sets`): pictures to train on, and as the test part those held out."""
    data = feedback_sets.read(user_files.stem(cfg), "picture")
    rows = [
        image_files.Row(data.folder / row.value, row.value, row.label, part)
        for part, members in data.parts.items()
        for row in members
    ]
    shape = shape_option(cfg, image_files.first_size(row.path for row in rows))
    _, pixels, unreadable, *_ = image_files.readable(rows, shape, keep=True)
    if unreadable:
        raise UserError(f"{data.folder}/{unreadable[0]}")
    labels = np.array([data.classes.index(row.label) for row in rows])
    parts = {part: np.array([i for i, row in enumerate(rows) if row.part == part], np.int64) for part in data.parts}
    source = Arrays({"image": np.stack(pixels), "label": labels})
    images = _images(str(data.folder), source, labels, parts, data.classes, shape)
    return dataclasses.replace(images, report=data.report)


@_source
def arrays(cfg: Mapping[str, Any]) -> Images:
    """The user's own arrays: a .npz of images and labels, or a folder of images.npy, labels.npy.

    `images` [N, Y, X] or [N, Y, X, C], uint8 or floats in 0..1; `labels` whole numbers [N].
    """
    root = user_files.root(cfg)
    images, labels = _read_array(root, "images"), _read_array(root, "labels")
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or labels.shape != images.shape[:1] or not len(labels):
        raise UserError(
            f"{root}: images {list(images.shape)}, labels {list(labels.shape)}; "
            "wanted [N, Y, X] or [N, Y, X, C], and [N]"
        )
    if images.shape[3] > 4 >= images.shape[1]:
        raise UserError(f"{root}: images {list(images.shape)} have channels first; move them last")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise UserError(f"{root}: labels must be whole numbers from 0 ({labels.dtype})")
    if labels.max() >= MOST_CLASSES:
        raise UserError(
            f"{root}: a label {labels.max():,}; classes are numbered from 0, at most {MOST_CLASSES:,} of them"
        )
    floats = np.issubdtype(images.dtype, np.floating)
    if not floats and images.dtype != np.uint8:
        raise UserError(f"{root}: images of {images.dtype}; wanted uint8, or floats in 0..1")
    if floats and not (images.min() >= 0 and images.max() <= 1):  # NaN is caught too
        raise UserError(f"{root}: images in {images.min()}..{images.max()}; scale them to 0..1")
    parts = split([str(i) for i in range(len(labels))], labels, *_fractions(cfg))
    classes = tuple(str(i) for i in range(int(labels.max()) + 1))
    source = Arrays({"image": images, "label": labels})
    white = 1 if floats else 255
    return _images(str(root), source, labels, parts, classes, images.shape[1:], white)


def _tfds(name: str, cfg: Mapping[str, Any]) -> Images:
    """A prepared TFDS data set with an image and a class.

    Without a split `validation`, the last `valid_fraction` of `train` in stored order is the validation part.
    """
    data_dir = user_files.option(cfg, "data_dir", None)
    info = tfds_records.builder(name, data_dir).info
    keys = {type(feature).__name__: key for key, feature in info.features.items()}
    if not {"Image", "ClassLabel"} <= keys.keys():
        raise UserError(f"{name} has no picture with a class, but {', '.join(info.features)}")
    image, label = keys["Image"], keys["ClassLabel"]
    splits = {"train": "train", "valid": "validation", "test": "test"}
    if "validation" not in info.splits:
        del splits["valid"]
        if (percent := round(100 * (1 - _fractions(cfg)[0]))) < 100:
            splits |= {"train": f"train[:{percent}%]", "valid": f"train[{percent}%:]"}
    if "test" not in info.splits:
        del splits["test"]
    *size, channels = info.features[image].shape
    shape = shape_option(cfg, None if None in size else (size[0], size[1]), 1 if channels == 1 else 3)

    def element(example: dict) -> dict[str, np.ndarray]:
        pixels = info.features[image].decode_example_np(example[image])
        if pixels.shape != shape:
            squeezed = pixels[..., 0] if pixels.shape[2] == 1 else pixels
            pixels = image_files.fit(Image.fromarray(squeezed), shape)
        return {"image": pixels, "label": np.asarray(example[label])}

    sources: dict[str, Labelled] = {}
    for part, tfds_split in splits.items():
        encoded = tfds_records.load(name, tfds_split, data_dir, [image])
        source: Source = tfds_records.TfdsSource(encoded, element)
        rows = np.arange(len(source))
        if len(source) * math.prod(shape) <= IN_MEMORY:
            source = Arrays(source.gather(rows, 0))
        sources[part] = ImageSource(source, rows, partial(tfds_records.column, encoded, label))
    counts = ", ".join(f"{len(source):,} {part}" for part, source in sources.items())
    report = [
        f"source   {name}: {info.features[label].num_classes} classes, {_format(shape)}",
        f"split    {counts} ({', '.join(splits.values())})",
    ]
    return _data_set(sources, tuple(info.features[label].names), shape, report)


def read(path: Path, shape: Shape) -> np.ndarray:
    """An image file, scaled and cut to `shape` -> f32[Y, X, C] in 0..1. Raises UserError if it cannot be read."""
    return image_files.sound(path, shape).astype(np.float32) / 255


def to_image(value: Any, shape: Shape) -> np.ndarray:
    """A PIL image, or an array u8 or f32 in 0..1 of [Y, X, C] or [Y, X], of any size -> f32[Y, X, C] in 0..1, as from `read`.

    Raises UserError for any other value.
    """
    if isinstance(value, Image.Image):
        return image_files.fit(value, shape).astype(np.float32) / 255
    array = np.asarray(value)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"a picture is u8 or f32[Y, X, C], not {array.dtype}{list(array.shape)}")
    if array.dtype != np.uint8 and not (array.min() >= 0 and array.max() <= 1):
        raise UserError(f"a picture of floats is in 0..1, not {array.min():.3g}..{array.max():.3g}")
    if array.shape == tuple(shape):
        return array.astype(np.float32) / (255 if array.dtype == np.uint8 else 1)
    bytes_ = array if array.dtype == np.uint8 else np.round(255 * array).astype(np.uint8)
    return to_image(Image.fromarray(bytes_.squeeze(-1) if bytes_.shape[-1] == 1 else bytes_), shape)


def most_frequent(source: Labelled) -> float:
    """The accuracy of always predicting the most frequent class: a classifier's baseline."""
    labels = source.labels()
    return float(np.bincount(labels).max() / len(labels))


def _images(
    title: str,
    source: Source,
    labels: np.ndarray,
    parts: Parts,
    classes: tuple[str, ...],
    shape: Shape,
    white: float = 255,
) -> Images:
    """The parts of one source, and their report."""
    counts = np.bincount(labels, minlength=len(classes))
    each = ", ".join(f"{name} {n:,}" for name, n in list(zip(classes, counts, strict=True))[:12])
    more = f" and {len(classes) - 12} more" if len(classes) > 12 else ""
    sizes = ", ".join(f"{len(rows):,} {part}" for part, rows in parts.items())
    report = [
        f"source   {title}: {len(source):,} pictures of {_format(shape)}, {len(classes)} classes",
        f"classes  {each}{more}",
        f"split    {sizes}",
    ]
    for number, fault in ((0, "no example"), (1, "one example, never validated")):
        few = [name for name, n in zip(classes, counts, strict=True) if n == number]
        report += user_files.listed(f"warning  classes with {fault}:", few)
    sources = {part: ImageSource(source, rows, lambda: labels, white) for part, rows in parts.items() if len(rows)}
    return _data_set(sources, classes, shape, report)


def _data_set(sources: Mapping[str, Labelled], classes: tuple[str, ...], shape: Shape, report: list[str]) -> Images:
    if "train" not in sources:
        raise UserError(f"no picture to train on ({', '.join(report)})")
    valid, test = sources.get("valid"), sources.get("test")
    return Images(sources["train"], valid, test, classes, shape, report)


def shape_option(cfg: Mapping[str, Any], first: tuple[int, int] | None, channels: int = 3) -> Shape:
    """(Y, X, C) by `size` and `channels`, by default `first` and 3. Raises UserError if there is no size, or one is none."""
    size = user_files.option(cfg, "size", first)
    if size is None:
        raise UserError("data.size: the pictures do not tell; give pixels, or [Y, X]")
    height, width = (size, size) if isinstance(size, int) else size
    channels = user_files.option(cfg, "channels", channels)
    if height < 1 or width < 1 or channels not in (1, 3):
        raise UserError(f"data.size = {size}, data.channels = {channels}: above 0, and 1 or 3")
    return int(height), int(width), int(channels)


def parts_of(names: Sequence[str], given: Sequence[str], labels: np.ndarray, cfg: Mapping[str, Any]) -> Parts:
    """The parts `given` of examples; if none has one, by `split`; if only valid is missing, it is cut from train."""
    valid, test = _fractions(cfg)
    row_parts = np.array(given)
    if not row_parts.astype(bool).any():
        return split(names, labels, valid, test)
    parts = {"train": np.flatnonzero((row_parts == "train") | (row_parts == ""))}
    if (row_parts == "valid").any():
        parts["valid"] = np.flatnonzero(row_parts == "valid")
    elif len(train := parts["train"]):
        cut = split([names[i] for i in train.tolist()], labels[train], valid, 0)
        parts = {part: train[cut[part]] for part in ("train", "valid")}
    return parts | {"test": np.flatnonzero(row_parts == "test")}


def _fractions(cfg: Mapping[str, Any]) -> tuple[float, float]:
    return tuple(user_files.option(cfg, f"{part}_fraction", 0.1) for part in ("valid", "test"))


def _read_array(root: Path, name: str) -> np.ndarray:
    path = root / f"{name}.npy" if root.is_dir() else root
    try:
        if root.is_dir():
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with np.load(path, allow_pickle=False) as archive:
            if name in archive:
                return archive[name]
            keys = ", ".join(archive)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    raise UserError(f"{path} holds {keys}; wanted images and labels")


def _format(shape: Shape) -> str:
    return " x ".join(map(str, shape))

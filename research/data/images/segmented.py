"""Pictures with a class for each pixel, in memory: {"image": f32[n, Y, X, C] in 0..1, "label": i32[n, Y, X]}, 255 for void.

Config: source (`SOURCES`), size (digits, discs: the canvas; files: pixels or [Y, X] that pictures and masks are scaled to, None
for their own, which is then one for all). For files also path, masks (classes or objects), channels (1 or 3), classes (names;
None: "0", "1", ..., of objects "ground" and "object"), valid_fraction and test_fraction (0.1).
"""

import dataclasses
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image

from research.data import download, user_files
from research.data.defaults import VOID
from research.data.images import labelled, object_masks, segmented_files
from research.data.images.discs import draw as draw_discs
from research.data.images.image_files import Shape
from research.data.pipeline import Arrays, Source
from research.util.errors import UserError, nearest

ISBI = download.File(
    "isbi2012_membrane_train.tar", "", "c184f93bf6a15698789499634819f71d6cce0adde8117c410c4b63d7e23fab79", 6_543_360
)
ISBI_PARTS = {"train": range(24), "valid": range(24, 27), "test": range(27, 30)}  # in the stack's order
CAMVID = download.File(
    "camvid_480x360.zip", "", "0f0e4fc58ad5dbcda07e9e2ef8f4da25f6f870550065d064230d3d96128cc1c8", 40_831_140
)
CAMVID_PARTS = {"train": "train", "valid": "val", "test": "test"}
CAMVID_CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
DIGITS = {"train": 1_000, "valid": 100, "test": 100}
DISCS = {"train": 200, "valid": 50, "test": 50}
INK = 0.25  # of a digit's darkest: a pixel above it is the digit's


@dataclasses.dataclass(frozen=True)
class Segmented:
    """A data set: sources of train and perhaps valid and test; `shape` is (Y, X, C).

    objects  {part: u16[n, Y, X]}, the number of the object that a pixel is of, 0 for the ground; empty if no data has them
    """

    parts: Mapping[str, Source]
    classes: tuple[str, ...]
    shape: Shape
    report: list[str]
    objects: Mapping[str, np.ndarray]


SOURCES: dict[str, Callable[[Mapping[str, Any], int], Segmented]] = {}


def load(cfg: Mapping[str, Any], seed: int) -> Segmented:
    """The data set `cfg["source"]`. Raises UserError if there is none."""
    if cfg["source"] not in SOURCES:
        raise UserError(f"no source of segmented pictures {cfg['source']!r}{nearest(cfg['source'], SOURCES)}")
    return SOURCES[cfg["source"]](cfg, seed)


def _source(function: Callable) -> Callable:
    SOURCES[function.__name__] = function
    return function


class DigitCanvas:
    """One to three of scikit-learn's digits on a noisy canvas; a pixel's class is its digit's, or the ground's, 0.

    A picture is a function of (seed, part, index). The digits of one part are in no other.
    """

    def __init__(self, part: str, size: int, seed: int):
        if size < 8:
            raise UserError(f"data.size = {size}: a digit has 8 pixels a side")
        digits = getattr(labelled.load({"source": "digits"}), part)
        batch = digits.gather(np.arange(len(digits)))
        self._digits, self._labels = batch["image"][..., 0], batch["label"]
        self._seed, self._count, self._size = (seed, list(DIGITS).index(part)), DIGITS[part], size

    def __len__(self) -> int:
        return self._count

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        """Epochs are alike."""
        images, labels = zip(*(self._draw(int(i)) for i in indices), strict=True)
        return {"image": np.stack(images)[..., None], "label": np.stack(labels)}

    def _draw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng, size = np.random.default_rng((*self._seed, index)), self._size
        image = rng.uniform(0, INK, (size, size)).astype(np.float32)
        label = np.zeros((size, size), np.int32)
        for _ in range(rng.integers(1, 4)):
            which, scale = rng.integers(len(self._digits)), rng.integers(1, min(2, size // 8) + 1)
            large = np.kron(self._digits[which], np.ones((scale, scale), np.float32))
            y, x = rng.integers(0, size - len(large) + 1, 2)
            here = (slice(y, y + len(large)), slice(x, x + len(large)))
            image[here] = np.where(large > INK, large, image[here])  # the later lies on top
            label[here] = np.where(large > INK, self._labels[which] + 1, label[here])
        return image, label


@_source
def digits(cfg: Mapping[str, Any], seed: int) -> Segmented:
    """Scikit-learn's digits on a canvas: 11 classes, without a download."""
    size = user_files.option(cfg, "size", 32)
    if not isinstance(size, int):
        raise UserError(f"data.size = {size}: the canvas of digits is square; give one number")
    parts = {part: DigitCanvas(part, size, seed) for part in DIGITS}
    return _segmented("digits, drawn by seed and index", parts, ("ground", *"0123456789"), (size, size, 1), [])


@_source
def discs(cfg: Mapping[str, Any], seed: int) -> Segmented:
    """Discs that touch, drawn by seed and index, each an object."""
    size = user_files.option(cfg, "size", 64)
    if not isinstance(size, int) or size < 16:
        raise UserError(f"data.size = {size}: the canvas of discs is square; give one number, at least 16")
    sources, objects = {}, {}
    for i, (part, count) in enumerate(DISCS.items()):
        drawn = [draw_discs(np.random.default_rng((seed, i, index)), size) for index in range(count)]
        images, objects[part] = map(np.stack, zip(*drawn, strict=True))
        sources[part] = _arrays(images[..., None], object_masks.to_labels(objects[part]))
    return _segmented("discs, drawn by seed and index", sources, object_masks.CLASSES, (size, size, 1), [], objects)


@_source
def isbi_em(cfg: Mapping[str, Any], seed: int) -> Segmented:
    """The 30 labelled slices of the ISBI 2012 challenge (512 x 512): 24 to train on, 3 to validate, 3 to test with."""
    with tarfile.open(download.fetch("isbi_em", [ISBI])[ISBI.name]) as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}  # type: ignore[union-attr]
    parts = {}
    for part, slices in ISBI_PARTS.items():
        image = [_bytes(files[f"membrane/train/image/{i}.png"], "L") for i in slices]
        label = [_bytes(files[f"membrane/train/label/{i}.png"], "L") > 127 for i in slices]
        parts[part] = _arrays(np.stack(image)[..., None], np.stack(label))
    report = ["split    by slices of the labelled stack; the challenge's own test labels are not public"]
    return _segmented(
        "ISBI 2012, serial section electron microscopy", parts, ("membrane", "cell"), (512, 512, 1), report
    )


@_source
def camvid(cfg: Mapping[str, Any], seed: int) -> Segmented:
    """CamVid as SegNet's authors divided it, 360 x 480: 11 classes and void."""
    parts = {}
    with zipfile.ZipFile(download.fetch("camvid", [CAMVID])[CAMVID.name]) as archive:
        names = archive.namelist()
        for part, folder in CAMVID_PARTS.items():
            stems = sorted(
                PurePosixPath(name).stem for name in names if PurePosixPath(name).match(f"{folder}annot/*.png")
            )
            image = [_bytes(archive.read(f"{folder}/{stem}.jpg"), "RGB") for stem in stems]
            label = np.stack([_bytes(archive.read(f"{folder}annot/{stem}.png"), None) for stem in stems])
            parts[part] = _arrays(np.stack(image), np.where(label == len(CAMVID_CLASSES), VOID, label))
    report = ["frames   JPEG of quality 91, made of the authors' PNGs (38.6 dB); the labels are theirs"]
    return _segmented("CamVid", parts, CAMVID_CLASSES, (360, 480, 3), report)


@_source
def files(cfg: Mapping[str, Any], seed: int) -> Segmented:
    """The user's own, in a folder (`segmented_files`)."""
    folder = segmented_files.read(cfg)
    if not folder.numbered:
        sources = {part: _arrays(images, labels) for part, (images, labels) in folder.parts.items()}
        return _segmented(folder.title, sources, folder.classes, folder.shape, folder.report)
    objects = {part: numbers.astype(np.uint16) for part, (_, numbers) in folder.parts.items()}
    sources = {part: _arrays(folder.parts[part][0], object_masks.to_labels(objects[part])) for part in objects}
    return _segmented(folder.title, sources, folder.classes, folder.shape, folder.report, objects)


def _bytes(data: bytes, mode: str | None) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert(mode) if mode else image)


class _Scaled(Arrays):
    """Pictures kept in bytes, given in 0..1."""

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        batch = super().gather(indices, epoch)
        return {"image": batch["image"].astype(np.float32) / 255, "label": batch["label"].astype(np.int32)}


def _arrays(images: np.ndarray, labels: np.ndarray) -> Source:
    return _Scaled({"image": images, "label": labels.astype(np.uint8)})


def _segmented(
    title: str,
    parts: Mapping[str, Source],
    classes: tuple[str, ...],
    shape: Shape,
    report: list[str],
    objects: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> Segmented:
    counts = ", ".join(f"{len(source):,} {part}" for part, source in parts.items())
    lines = [f"source   {title}: {' x '.join(map(str, shape))}, {len(classes)} classes", f"pictures {counts}"]
    if objects:
        totals = {part: sum(len(np.unique(each[each > 0])) for each in numbers) for part, numbers in objects.items()}
        lines.append(f"objects  {', '.join(f'{total:,} {part}' for part, total in totals.items())}")
    return Segmented(parts, classes, shape, [*lines, *report], objects)

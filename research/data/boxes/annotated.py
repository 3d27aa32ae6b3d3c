"""Pictures with the boxes of their annotations: checked, named where they are faulty, and a source of padded arrays."""

import dataclasses
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from research.data import user_files
from research.data.boxes import letterbox
from research.data.boxes.truth import Truth
from research.data.images import image_files, labelled
from research.data.images.image_files import Shape
from research.data.thread_pool import OrderedMap
from research.util.errors import UserError

IN_MEMORY = 512 << 20  # bytes of pixels up to which all pictures are decoded at the start


@dataclasses.dataclass(frozen=True)
class Annotated:
    """One picture and its boxes, in its own pixels as (x1, y1, x2, y2); `ignored` are VOC's difficult and COCO's crowds."""

    picture: Path | bytes
    name: str  # relative to the user's folder
    boxes: np.ndarray  # f32[n, 4]
    labels: list[str]
    ignored: np.ndarray  # bool[n]
    part: str  # train, valid or test; empty if not given


@dataclasses.dataclass
class Listed:
    """What a reader found: pictures, the classes if the format lists them, a line for each thing left out, lines for a report."""

    rows: list[Annotated]
    classes: list[str] | None = None
    faults: list[str] = dataclasses.field(default_factory=list)
    report: list[str] = dataclasses.field(default_factory=list)


def annotated(
    picture: Path | bytes, name: str, boxes: Sequence[tuple[str, Sequence[float], bool]], part: str
) -> Annotated:
    """From (class, (x1, y1, x2, y2), ignored) of each box."""
    corners = np.array([box for _, box, _ in boxes], np.float32).reshape(-1, 4)
    ignored = np.array([ignored for *_, ignored in boxes], bool)
    return Annotated(picture, name, corners, [label for label, *_ in boxes], ignored, part)


class BoxSource:
    """Pictures on a canvas with padded boxes.

    gather -> image f32[n, Y, X, C] in 0..1, boxes f32[n, M, 4] on the canvas, labels i32[n, M], box_mask f32[n, M], and size
    i32[n, 2], the picture's own (Y, X). Ignored boxes are masked: they are not trained on. `truth` has them, in the picture's own
    pixels.
    """

    def __init__(
        self,
        rows: Sequence[Annotated],
        sizes: Sequence[tuple[int, int]],
        classes: Sequence[str],
        shape: Shape,
        most: int,
    ):
        self.rows, self._sizes, self.shape = rows, np.array(sizes, np.int32).reshape(-1, 2), shape
        number = {name: i for i, name in enumerate(classes)}
        self._labels = [np.array([number[label] for label in row.labels], np.int32) for row in rows]
        self._boxes = np.zeros((len(rows), most, 4), np.float32)
        self._padded_labels = np.zeros((len(rows), most), np.int32)
        self._mask = np.zeros((len(rows), most), np.float32)
        for i, row in enumerate(rows):
            trained = np.flatnonzero(~row.ignored)
            self._boxes[i, : len(trained)] = letterbox.boxes(row.boxes[trained], sizes[i], shape)
            self._padded_labels[i, : len(trained)] = self._labels[i][trained]
            self._mask[i, : len(trained)] = 1
        self._decode: OrderedMap[Annotated, np.ndarray] = OrderedMap(lambda row: decode(row, shape))
        self._pixels = self._decode(list(rows)) if len(rows) * int(np.prod(shape)) <= IN_MEMORY else None

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        pixels = [self._pixels[i] for i in indices] if self._pixels else self._decode([self.rows[i] for i in indices])
        return {
            "image": np.stack(pixels).astype(np.float32) / 255,
            "boxes": self._boxes[indices],
            "labels": self._padded_labels[indices],
            "box_mask": self._mask[indices],
            "size": self._sizes[indices],
        }

    def truth(self, index: int) -> Truth:
        row = self.rows[index]
        return Truth(row.boxes.astype(np.float64), self._labels[index], row.ignored)


@dataclasses.dataclass(frozen=True)
class BoxData:
    """A data set: {part: source}, with a train part. A source is as `BoxSource`."""

    parts: Mapping[str, Any]
    classes: tuple[str, ...]
    shape: Shape
    report: list[str]


def decode(row: Annotated, shape: Shape) -> np.ndarray:
    """-> u8[Y, X, C], turned upright by its EXIF data and letterboxed. Raises UserError if it cannot be read."""
    try:
        with _open(row.picture) as image:
            return letterbox.picture(ImageOps.exif_transpose(image), shape)
    except image_files.UNREADABLE as error:
        raise UserError(f"picture {row.name} cannot be read: {error}") from None


def _open(picture: Path | bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture)


def load(title: str, listed: Listed, cfg: Mapping[str, Any], shape: Shape) -> BoxData:
    """Checks every picture and box, and divides the pictures where the data does not.

    Left out and named are pictures that cannot be read, boxes outside their picture or of no area (one that crosses an edge is
    cut), and boxes of unknown classes. Pictures without boxes stay. Raises UserError if none with a box is left to train on.
    """
    faults = list(listed.faults)
    rows, sizes = [], []
    cuts = 0
    for row, (size, fault) in zip(listed.rows, OrderedMap(_size)(listed.rows), strict=True):
        if fault:
            faults.append(f"{row.name}: {fault}")
            continue
        checked, named, cut = _checked(row, size, listed.classes)
        faults += named
        cuts += cut
        rows.append(checked)
        sizes.append(size)
    seen = Counter(label for row in rows for label in row.labels)
    classes = tuple(listed.classes if listed.classes is not None else sorted(seen))
    parts = _parts(rows, cfg)
    if not any(len(rows[i].boxes) for i in parts["train"]):
        raise UserError(
            f"{title}: no picture with a box to train on, of {len(listed.rows)} ({'; '.join(faults[:3]) or 'none found'})"
        )
    most = max(1, max(int((~row.ignored).sum()) for row in rows))
    sources = {
        part: BoxSource([rows[i] for i in chosen], [sizes[i] for i in chosen], classes, shape, most)
        for part, chosen in parts.items()
        if len(chosen)
    }
    report = [
        f"source   {title}: {len(rows):,} pictures with {sum(seen.values()):,} boxes of {len(classes)} classes, on "
        f"{' x '.join(map(str, shape))}",
        f"classes  {', '.join(f'{name} {seen[name]:,}' for name in classes[:12])}"
        + (f" and {len(classes) - 12} more" if len(classes) > 12 else ""),
        f"split    {', '.join(f'{len(chosen):,} {part}' for part, chosen in parts.items())}",
        *listed.report,
        *_counts(rows, cuts),
        *user_files.listed("warning  classes without a box:", [name for name in classes if not seen[name]]),
        *user_files.listed("left out", faults),
    ]
    return BoxData(sources, classes, shape, report)


def _counts(rows: Sequence[Annotated], cuts: int) -> Iterator[str]:
    empty, ignored = sum(not len(row.boxes) for row in rows), sum(int(row.ignored.sum()) for row in rows)
    if empty:
        yield f"empty    {empty} pictures without a box, kept"
    if ignored:
        yield f"ignored  {ignored} boxes marked difficult or crowd: not trained on, neither hit nor mistake in evaluation"
    if cuts:
        yield f"cut      {cuts} boxes at the edges of their pictures"


def _size(row: Annotated) -> tuple[tuple[int, int], str]:
    """The picture's (Y, X) upright, and why it cannot be read. It is read to its end: one cut short has a whole beginning."""
    try:
        with _open(row.picture) as image:
            upright = ImageOps.exif_transpose(image)
            upright.load()
            if upright.mode[0] in "IF":  # its numbers are looked at
                image_files.fit(upright, (upright.height, upright.width, 1))
            return upright.size[::-1], ""
    except FileNotFoundError:
        return (0, 0), "missing"
    except image_files.UNREADABLE as error:
        return (0, 0), getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def _checked(row: Annotated, size: tuple[int, int], classes: Sequence[str] | None) -> tuple[Annotated, list[str], int]:
    """-> the row with its sound boxes, cut at the edges; a line for each other; how many were cut."""
    rows, columns = size
    inside = np.clip(row.boxes, 0, np.array([columns, rows, columns, rows], np.float32))
    kept, faults, cut = [], [], 0
    for i, (box, within) in enumerate(zip(row.boxes, inside, strict=True)):
        what = f"{row.name}: box {i + 1} ({', '.join(f'{v:g}' for v in box)})"
        if not np.isfinite(box).all() or (box[2:] <= box[:2]).any():
            faults.append(f"{what} has no area")
        elif (within[2:] <= within[:2]).any():
            faults.append(f"{what} is outside its picture of {columns} x {rows}")
        elif classes is not None and row.labels[i] not in classes:
            faults.append(f"{what}: class {row.labels[i]!r} is not among those listed")
        else:
            kept.append(i)
            cut += bool((within != box).any())
    labels = [row.labels[i] for i in kept]
    return dataclasses.replace(row, boxes=inside[kept], labels=labels, ignored=row.ignored[kept]), faults, cut


def _parts(rows: Sequence[Annotated], cfg: Mapping[str, Any]) -> dict[str, list[int]]:
    """{part: row numbers}: those of the data; else shares of all by the hashes of the names."""
    valid, test = (user_files.option(cfg, f"{part}_fraction", 0.1) for part in ("valid", "test"))
    given = {part: [i for i, row in enumerate(rows) if row.part == part] for part in ("train", "valid", "test")}
    free = [i for i, row in enumerate(rows) if not row.part]
    if given["valid"]:
        return {**given, "train": sorted(given["train"] + free)}
    pool = sorted(given["train"] + free)
    names = [rows[i].name for i in pool]
    cut = labelled.split(names, np.zeros(len(pool), int), valid, 0 if given["test"] or given["train"] else test)
    out = {part: [pool[i] for i in chosen] for part, chosen in cut.items()}
    return {**out, "test": sorted(out["test"] + given["test"])}

"""The user's own image files: listed from folders or a .csv, checked, decoded."""

import csv
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from research.data import user_files
from research.data.thread_pool import OrderedMap
from research.util.errors import UserError

Shape = tuple[int, int, int]  # Y, X, C

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
PARTS = {
    "train": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # Pillow's exceptions


class Row(NamedTuple):
    """A labelled image file."""

    path: Path
    name: str  # relative to the user's folder, for splits and reports
    label: str
    part: str  # train, valid or test; empty if not given


def folder_rows(root: Path) -> tuple[list[Row], list[str]]:
    """One folder per class -> the rows, and a line for each image that is in no class folder."""
    rows, faults = [], []
    for path in user_files.visible(root):
        name = path.relative_to(root)
        if path.suffix.lower() not in SUFFIXES:
            continue
        part = PARTS.get(name.parts[0], "") if len(name.parts) > 2 else ""
        if len(name.parts) == 1:
            faults.append(f"{name}: not in a class folder")
        else:
            rows.append(Row(path, name.as_posix(), name.parts[1 if part else 0], part))
    return rows, faults


def csv_rows(root: Path) -> tuple[list[Row], list[str]]:
    """A .csv with columns path (relative to its folder), label[, split] -> the rows, and a line for each invalid one."""
    rows, faults = [], []
    try:
        table = list(csv.reader(root.read_text(encoding="utf-8-sig").splitlines(keepends=True)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{root} is not a UTF-8 .csv file: {error}") from None
    columns = table[0] if table else []
    if not {"path", "label"} <= set(columns):
        names = ", ".join(columns)
        raise UserError(f"{root} has columns {names}; wanted path, label and perhaps split")
    for number, cells in enumerate(table[1:], 2):
        row = dict(zip(columns, cells, strict=False))
        name, label, part = (row.get(key, "") for key in ("path", "label", "split"))
        if not name or not label:
            faults.append(f"row {number}: no path or no label")
        elif part and part not in PARTS:
            faults.append(f"row {number}: split {part!r} is not train, valid or test")
        else:
            rows.append(Row(root.parent / name, name, label, PARTS.get(part, "")))
    return rows, faults


def readable(rows: list[Row], shape: Shape, keep: bool) -> tuple[list[Row], list[np.ndarray], list[str]]:
    """The rows that Pillow can read, their pixels u8[Y, X, C] if `keep`, and a line for each of the others."""

    def attempt(row: Row) -> tuple[np.ndarray | None, str]:
        try:
            if keep:
                return decode(row.path, shape), ""
            Image.open(row.path).close()
            return None, ""
        except UNREADABLE as error:
            return None, f"{row.name}: {'missing' if not row.path.exists() else error}"

    outcomes = OrderedMap(attempt)(rows)
    valid = [row for row, (_, fault) in zip(rows, outcomes, strict=True) if not fault]
    pixels = [image for image, _ in outcomes if image is not None]
    return valid, pixels, [fault for _, fault in outcomes if fault]


def first_size(rows: list[Row]) -> tuple[int, int] | None:
    """(Y, X) of the first image that can be read, or None."""
    for row in rows:
        try:
            with Image.open(row.path) as image:
                return ImageOps.exif_transpose(image).size[::-1]
        except UNREADABLE:
            continue
    return None


def decode(path: Path, shape: Shape) -> np.ndarray:
    """A file -> u8[Y, X, C]: turned upright by its EXIF data, scaled to cover `shape` and cropped at the centre."""
    with Image.open(path) as image:
        ImageOps.exif_transpose(image, in_place=True)  # else it copies every upright image
        return fit(image, shape)


def sound(path: Path, shape: Shape) -> np.ndarray:
    """`decode`, but raises UserError if the file cannot be read."""
    try:
        return decode(path, shape)
    except UNREADABLE as error:
        raise UserError(f"picture {path} cannot be read: {error}") from None


def fit(image: Image.Image, shape: Shape) -> np.ndarray:
    """An image -> u8[Y, X, C], scaled to cover `shape` and cropped at the centre."""
    if image.mode.startswith("I;16"):  # 16 bits: Pillow would clip at 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    mode = "L" if shape[2] == 1 else "RGB"
    if image.mode != mode:  # else `convert` would only copy
        image = image.convert(mode)
    if image.size != (shape[1], shape[0]):
        image = ImageOps.fit(image, (shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


class Files:
    """A source that decodes images on access, to u8[n, Y, X, C], by the threads of `thread_pool`.

    `gather` raises UserError for the first image, in the order of the indices, that cannot be read.
    """

    def __init__(self, paths: Sequence[Path], labels: np.ndarray, shape: Shape):
        self.paths, self.labels, self.shape = paths, labels, shape
        self._decode = OrderedMap(functools.partial(sound, shape=shape))

    def __len__(self) -> int:
        return len(self.paths)

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        image = self._decode([self.paths[i] for i in indices])
        return {"image": np.stack(image), "label": self.labels[indices]}

"""The user's own image files: listed from folders or a table, checked, decoded."""

import functools
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from research.data import user_files
from research.data.thread_pool import OrderedMap
from research.util.errors import UserError

Shape = tuple[int, int, int]  # Y, X, C

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".gif", ".tif", ".tiff", ".webp")
# What Pillow's readers of damaged files raise.
UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip
WHITES = (1, 255, 65_535)  # the greatest values of pictures of whole numbers or floats, as they are usually stored


class Row(NamedTuple):
    """A labelled image file."""

    path: Path
    name: str  # relative to the user's folder, for splits and reports
    label: str
    part: str  # train, valid or test; empty if not given


class Listed(NamedTuple):
    """The labelled files of a folder or table, a line for each that is skipped, and lines on files of other kinds."""

    rows: list[Row]
    faults: list[str]
    report: list[str]


def folder_rows(root: Path) -> Listed:
    """One folder per class; train, valid and test may be folders above those."""
    paths, faults = user_files.listing(root)
    names = [path.relative_to(root) for path in paths]
    read = [name for name in names if name.suffix.lower() in SUFFIXES]
    others = [name for name in names if name.suffix.lower() not in SUFFIXES]
    rows = []
    for name, (label, part) in zip(read, user_files.in_folder_per_class(read), strict=True):
        if label:
            rows.append(Row(root / name, name.as_posix(), label, part))
        else:
            faults.append(f"{name}: not in a class folder")
    unread = user_files.unread_classes(others, [row.label for row in rows])
    return Listed(rows, faults, [*user_files.ignored(others, SUFFIXES), *unread])


def table_rows(root: Path) -> Listed:
    """A .csv or .tsv with columns path (relative to its folder), label[, split]."""
    rows, faults = [], []
    delimiter = user_files.TABLES[root.suffix.lower()]
    for row in user_files.table(root, delimiter, ("path", "label"), "wanted path, label and perhaps split"):
        name, label, split = ((row.cells or {}).get(key, "") for key in ("path", "label", "split"))
        if row.cells is None:
            faults.append(f"{row.place}: {row.fault}")
        elif not name or not label.strip():
            faults.append(f"{row.place}: no path or no label")
        elif (part := user_files.part(split)) is None:
            faults.append(f"{row.place}: split {split!r} is not train, valid or test")
        else:
            rows.append(Row(root.parent / name, name, label.strip(), part))
    return Listed(rows, faults, [])


class Checked(NamedTuple):
    """The rows whose pictures can be read, their pixels u8[Y, X, C] if they were kept, and a line for each of the others.

    `several` counts the pictures of several frames or pages, of which only the first is used, `scaled` those of another size.
    """

    rows: list[Row]
    pixels: list[np.ndarray]
    faults: list[str]
    several: int
    scaled: int


def readable(rows: list[Row], shape: Shape, keep: bool) -> Checked:
    """Reads every file to its end, because a picture that is cut short has a whole beginning; keeps the pixels if `keep`."""

    def attempt(row: Row) -> tuple[np.ndarray | None, bool, bool, str]:
        try:
            with Image.open(row.path) as image:
                several, scaled = bool(getattr(image, "is_animated", False)), _upright_size(image) != shape[:2]
            if keep:
                return decode(row.path, shape), several, scaled, ""
            check(row.path, shape)
            return None, several, scaled, ""
        except FileNotFoundError:
            return None, False, False, f"{row.name}: missing"
        except UNREADABLE as error:
            return None, False, False, f"{row.name}: {reason(error)}"

    outcomes = OrderedMap(attempt)(rows)
    valid = [row for row, (*_, fault) in zip(rows, outcomes, strict=True) if not fault]
    pixels, several, scaled, faults = zip(*outcomes, strict=True) if outcomes else [()] * 4
    kept = [image for image in pixels if image is not None]
    return Checked(valid, kept, [*filter(None, faults)], sum(several), sum(scaled))


def reason(error: Exception) -> str:
    """Why a file cannot be read, in one line, of one of UNREADABLE."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def check(path: Path, shape: Shape) -> None:
    """Raises one of UNREADABLE if `decode` would, in a fraction of its time."""
    with Image.open(path) as image:
        if image.mode[0] in "IF":  # its numbers are looked at
            fit(image, shape)
            return
        Image.new(image.mode, (1, 1)).convert(_mode(shape))
        if image.format == "PNG":
            image.verify()  # the checksums of all its parts
        else:
            image.draft("L", (1, 1))  # a JPEG is read to its end, and decoded at an eighth of its size
            image.load()


def first_size(paths: Iterable[Path]) -> tuple[int, int] | None:
    """(Y, X) of the first image that can be read, or None."""
    for path in paths:
        try:
            with Image.open(path) as image:
                return ImageOps.exif_transpose(image).size[::-1]
        except UNREADABLE:
            continue
    return None


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """(Y, X) of a picture turned as its EXIF data say, without decoding it: those of a PNG, which may come last, are not read."""
    X, Y = image.size
    turned = image.format != "PNG" and image.getexif().get(ExifTags.Base.Orientation, 1) in range(5, 9)
    return (X, Y) if turned else (Y, X)


def decode(path: Path, shape: Shape) -> np.ndarray:
    """A file -> u8[Y, X, C]: turned upright by its EXIF data, scaled to cover `shape` and cropped at the centre."""
    with Image.open(path) as image:
        white = 65_535 if image.format == "PPM" and image.mode == "I" else None  # Pillow scales its 16 bits to that
        ImageOps.exif_transpose(image, in_place=True)  # else it copies every upright image
        return fit(image, shape, white)


def sound(path: Path, shape: Shape) -> np.ndarray:
    """`decode`, but raises UserError if the file cannot be read."""
    try:
        return decode(path, shape)
    except UNREADABLE as error:
        raise UserError(f"picture {path} cannot be read: {reason(error)}") from None


def whole(path: Path) -> Image.Image:
    """A file's picture, upright. Raises one of UNREADABLE."""
    with Image.open(path) as image:
        image.load()
        return ImageOps.exif_transpose(image)


def opened(path: Path) -> Image.Image:
    """`whole`, but raises UserError if the file cannot be read."""
    try:
        return whole(path)
    except UNREADABLE as error:
        raise UserError(f"picture {path} cannot be read: {reason(error)}") from None


def fit(image: Image.Image, shape: Shape, white: float | None = None) -> np.ndarray:
    """An image -> u8[Y, X, C], scaled to cover `shape` and cropped at the centre.

    What is transparent shows white. 16 bits are scaled to 8. Larger whole numbers and floats are divided by `white`, or by the
    least of `WHITES` that none exceeds; if there is a negative or a greater one, their own range is scaled to 0..255. Raises
    ValueError for a number that is not finite.
    """
    if image.mode[0] in "IF":
        image = _eight_bits(image, white)
    if image.has_transparency_data:
        image = _on_white(image)
    mode = _mode(shape)
    if image.mode != mode:  # else `convert` would only copy
        image = image.convert(mode)
    if image.size != (shape[1], shape[0]):
        image = ImageOps.fit(image, (shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def _mode(shape: Shape) -> str:
    return "L" if shape[2] == 1 else "RGB"


def _eight_bits(image: Image.Image, white: float | None) -> Image.Image:
    """A picture of 16 or 32 bits a pixel, for which Pillow would clip at 255, in 8."""
    values = np.asarray(image)
    clear = image.info.get("transparency")  # the value of transparent pixels
    if image.mode.startswith("I;16"):
        scaled = values // 257
    else:
        if not np.isfinite(values).all():
            raise ValueError("it has values that are not finite numbers")
        scaled = np.rint(255 * _shares(values.astype(np.float64), white))
    if isinstance(clear, int | float):
        scaled = np.where(values == clear, 255, scaled)
    return Image.fromarray(scaled.astype(np.uint8))


def _shares(values: np.ndarray, white: float | None) -> np.ndarray:
    """Values f64[Y, X] -> 0..1."""
    low, high = values.min(), values.max()
    if white is None and low >= 0:
        white = next((white for white in WHITES if high <= white), None)
    if white is not None:
        return values / white
    return (values - low) / max(high - low, np.finfo(np.float64).tiny)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # Pillow has no way from it to RGBA
        image = image.convert("LA")
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


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

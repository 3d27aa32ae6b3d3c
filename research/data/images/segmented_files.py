"""The user's own segmented pictures: a folder with folders images and masks, whose files have the same names but for the suffix.

A mask is an indexed or grey picture, or 16 bits: its numbers are the classes, 255 is void; or they are its objects', as
`object_masks` has it. With folders train, valid and test above those the parts are given, else cut by the hashes of the names.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from research.data import user_files
from research.data.defaults import VOID
from research.data.images import image_files, labelled, object_masks
from research.data.images.image_files import Shape
from research.util.errors import UserError


class Folder(NamedTuple):
    """Pictures of one shape, {part: (u8[n, Y, X, C], numbers i32[n, Y, X])}; `numbered` says that the numbers are objects'."""

    title: str
    parts: dict[str, tuple[np.ndarray, np.ndarray]]
    classes: tuple[str, ...]
    numbered: bool
    report: list[str]

    @property
    def shape(self) -> Shape:
        return self.parts["train"][0].shape[1:]


class _Options(NamedTuple):
    """`size` is [Y, X] or None, for the pictures' own; `objects` numbers those of a mask, None where masks are of classes."""

    channels: int
    size: Sequence[int] | None
    objects: object_masks.ObjectMasks | None


class _Pair(NamedTuple):
    image: Path
    mask: Path
    pixels: np.ndarray
    numbers: np.ndarray


def read(cfg: Mapping[str, Any]) -> Folder:
    """The folder `cfg["path"]`. A pair of which a file cannot be read is left out, named and counted.

    Raises UserError for a picture without its mask or the other way round, one of another size than its mask, a mask whose
    numbers are no classes, and pictures of several sizes without `cfg["size"]`.
    """
    root, options = user_files.root(cfg), _options(cfg)
    given = {name: root / name for name in ("train", "valid", "test") if (root / name).is_dir()}
    faults: list[str] = []
    pairs = {part: list(_read(folder, options, faults)) for part, folder in (given or {"": root}).items()}
    if empty := [part for part, members in pairs.items() if not members]:
        raise UserError(f"{root / empty[0]}: no picture with its mask can be read ({faults[0]})")
    every = [pair for part in pairs.values() for pair in part]
    for pair in every:
        if pair.pixels.shape != every[0].pixels.shape:
            sizes = f"{pair.image} has {_size(pair.pixels)} pixels, {every[0].image} has {_size(every[0].pixels)}"
            raise UserError(f"{sizes}: set data.size to scale all")
    classes = _classes(cfg, every) if options.objects is None else _two_classes(cfg)
    if not given:
        fractions = (user_files.option(cfg, f"{part}_fraction", 0.1) for part in ("valid", "test"))
        rows = labelled.split([pair.image.stem for pair in every], np.zeros(len(every)), *fractions)
        pairs = {part: [every[i] for i in chosen] for part, chosen in rows.items() if len(chosen)}
    if "train" not in pairs:
        raise UserError(f"{root}: parts {', '.join(pairs)}; wanted train among them")
    stacked = {
        part: (np.stack([pair.pixels for pair in members]), np.stack([pair.numbers for pair in members]))
        for part, members in pairs.items()
    }
    report = [*user_files.listed("left out", faults), *(options.objects.report() if options.objects else ())]
    return Folder(str(root), stacked, classes, options.objects is not None, report)


def _options(cfg: Mapping[str, Any]) -> _Options:
    kind = user_files.option(cfg, "masks", "classes")
    if kind not in ("classes", "objects"):
        raise UserError(f"data.masks = {kind!r}: 'classes' or 'objects'")
    if (channels := user_files.option(cfg, "channels", 3)) not in (1, 3):
        raise UserError(f"data.channels = {channels}: 1 or 3")
    size = user_files.option(cfg, "size", None)
    size = (size, size) if isinstance(size, int) else size
    return _Options(channels, size, object_masks.ObjectMasks() if kind == "objects" else None)


def _read(folder: Path, options: _Options, faults: list[str]) -> Iterator[_Pair]:
    """The pairs of a folder; a line is added to `faults` for each that cannot be read."""
    for image, mask in _paths(folder):
        path = image
        try:
            picture = image_files.whole(image)
            pixels = image_files.fit(picture, (picture.height, picture.width, options.channels))
            path = mask
            with Image.open(mask) as labels:
                labels.load()
        except image_files.UNREADABLE as error:
            faults.append(f"{path.relative_to(folder)}: {image_files.reason(error)}")
            continue
        yield _Pair(image, mask, *_scaled(image, mask, pixels, labels, options))


def _paths(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Each picture with its mask, in the order of their names. Raises UserError for one without the other."""
    by_stem = []
    for name in ("images", "masks"):
        if not (folder / name).is_dir():
            raise UserError(f"{folder} has no folder {name}: wanted images and masks, with files of the same names")
        paths = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in image_files.SUFFIXES)
        stems = {path.stem: path for path in paths}
        if len(stems) < len(paths):
            twice = next(path for path in paths if stems[path.stem] != path)
            raise UserError(f"{twice} and {stems[twice.stem]} have one name: remove one")
        by_stem.append(stems)
    images, masks = by_stem
    for stem in sorted({*images, *masks}):
        if stem not in masks:
            raise UserError(f"{images[stem]} has no mask: wanted {folder / 'masks' / stem}.png")
        if stem not in images:
            raise UserError(f"{masks[stem]} has no picture: wanted {folder / 'images' / stem}.png or another suffix")
        yield images[stem], masks[stem]
    if not images:
        raise UserError(f"{folder / 'images'} holds no picture")


def _scaled(
    image: Path, mask: Path, pixels: np.ndarray, labels: Image.Image, options: _Options
) -> tuple[np.ndarray, np.ndarray]:
    """-> pixels u8[Y, X, C] and numbers i32[Y, X], scaled. Raises UserError for a mask in colours or of another size."""
    if labels.mode not in ("P", "L", "1", "I", "I;16", "I;16B"):
        meaning = "classes" if options.objects is None else "objects"
        raise UserError(
            f"{mask} is a mask of mode {labels.mode}: wanted an indexed or grey picture, whose numbers are {meaning}"
        )
    if pixels.shape[:2] != labels.size[::-1]:
        raise UserError(f"{mask} has {labels.height} x {labels.width} pixels, its picture {image} {_size(pixels)}")
    numbers = np.asarray(labels).astype(np.int32)
    if options.objects is not None:
        numbers = options.objects.number(numbers, mask)
    if options.size is None or pixels.shape[:2] == tuple(options.size):
        return pixels, numbers
    count, (Y, X) = int(numbers.max()), options.size
    numbers = np.asarray(Image.fromarray(numbers).resize((X, Y), Image.Resampling.NEAREST))
    if options.objects is not None:
        options.objects.scaled(numbers, mask, count)
    picture = Image.fromarray(pixels[..., 0] if options.channels == 1 else pixels)
    resized = np.asarray(picture.resize((X, Y), Image.Resampling.BILINEAR))
    return resized.reshape(Y, X, options.channels), numbers


def _classes(cfg: Mapping[str, Any], pairs: Sequence[_Pair]) -> tuple[str, ...]:
    """The names of the classes. Raises UserError for a mask with a number that is none of them."""
    names = user_files.option(cfg, "classes", None)
    most = max(int(pair.numbers[pair.numbers != VOID].max(initial=-1)) for pair in pairs)
    names = tuple(map(str, names)) if names is not None else tuple(str(i) for i in range(min(most, VOID - 1) + 1))
    if not 2 <= len(names) < VOID:
        raise UserError(
            f"data.classes: {len(names)} of them; wanted 2 to {VOID - 1}, or masks with as many numbers from 0"
        )
    for _, mask, _, numbers in pairs:
        if len(bad := np.unique(numbers[(numbers != VOID) & ((numbers < 0) | (numbers >= len(names)))])):
            raise UserError(f"{mask} has the label {bad[0]}: classes are 0 to {len(names) - 1}, and {VOID} is void")
    return names


def _two_classes(cfg: Mapping[str, Any]) -> tuple[str, ...]:
    names = tuple(map(str, user_files.option(cfg, "classes", object_masks.CLASSES)))
    if len(names) != len(object_masks.CLASSES):
        raise UserError(
            f"data.classes: {len(names)} of them; with data.masks = 'objects' two, the ground and the objects"
        )
    return names


def _size(pixels: np.ndarray) -> str:
    return " x ".join(map(str, pixels.shape[:2]))

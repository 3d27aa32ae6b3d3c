"""The user's own clips: animated GIF, PNG and WebP files, and folders of numbered frames: listed, checked, read by frame."""

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from research.data import user_files
from research.data.images import image_files
from research.data.images.image_files import Shape
from research.data.thread_pool import OrderedMap
from research.util.errors import UserError

SUFFIXES = (".gif", ".png", ".apng", ".webp")  # of files of several frames
TAIL = 1_024  # bytes at the end of a GIF in which its last is looked for; zeros may follow it
GREYS = bytes(np.arange(256, dtype=np.uint8).repeat(3))  # a palette
_NUMBER = re.compile(r"(\d+)\D*$")


class ClipFile(NamedTuple):
    """A labelled clip: an animated file, or a folder and its frames in order."""

    path: Path
    frames: tuple[Path, ...]  # of a folder; of an animated file none
    name: str  # relative to the user's folder, for splits and reports
    label: str
    part: str  # train, valid or test; empty if not given


class Listed(NamedTuple):
    """The clips of a folder, a line for each that is skipped, and lines on files of other kinds."""

    clips: list[ClipFile]
    faults: list[str]
    report: list[str]


def listed(root: Path) -> Listed:
    """One folder per class, in it animated files and folders of numbered frames; train, valid and test may be folders above."""
    paths, faults = user_files.listing(root)
    names = [path.relative_to(root) for path in paths]
    pictures = [name for name in names if name.suffix.lower() in image_files.SUFFIXES + SUFFIXES]
    others = [name for name in names if name not in set(pictures)]
    clips: list[ClipFile] = []
    folders: dict[Path, tuple[str, str, list[Path]]] = {}
    for name, (label, part) in zip(pictures, user_files.in_folder_per_class(pictures), strict=True):
        depth = len(name.parts) - bool(part)  # 2 in the class's folder, 3 in a folder of frames
        if depth == 3:
            folders.setdefault(name.parent, (label, part, []))[2].append(name)
        elif depth == 2 and name.suffix.lower() in SUFFIXES:
            clips.append(ClipFile(root / name, (), name.as_posix(), label, part))
        else:
            faults.append(f"{name}: {_misplaced(depth)}")
    for folder, (label, part, frames) in folders.items():
        try:
            ordered = tuple(root / frame for frame in in_order(frames))
        except ValueError as error:
            faults.append(f"{folder}: {error}")
            continue
        clips.append(ClipFile(root / folder, ordered, folder.as_posix(), label, part))
    return Listed(clips, faults, list(user_files.ignored(others, SUFFIXES)))


def _misplaced(depth: int) -> str:
    if depth == 1:
        return "not in a class folder"
    return "a picture of one frame; put frames into a folder each clip" if depth == 2 else "in a folder too deep"


def in_order(frames: Sequence[Path]) -> list[Path]:
    """Frames by the last number of their names. Raises ValueError if one has none, or two have the same.

    >>> [str(frame) for frame in in_order([Path("f10.png"), Path("f9.png")])]
    ['f9.png', 'f10.png']
    """
    numbers: dict[int, Path] = {}
    for frame in frames:
        match = _NUMBER.search(frame.stem)
        if not match:
            raise ValueError(f"{frame.name} has no number in its name")
        if int(match[1]) in numbers:
            raise ValueError(f"{numbers[int(match[1])].name} and {frame.name} have the same number")
        numbers[int(match[1])] = frame
    return [numbers[number] for number in sorted(numbers)]


def frames(clip: ClipFile, shape: Shape) -> Iterator[np.ndarray]:
    """The frames of a clip, one in memory at a time, u8[Y, X, C]: all scaled to cover `shape` and cropped at the centre.

    Raises one of `image_files.UNREADABLE` at a frame that cannot be read.
    """
    if not clip.frames:
        yield from animated(clip.path, shape)
        return
    for path in clip.frames:
        yield image_files.decode(path, shape)


def animated(path: Path, shape: Shape) -> Iterator[np.ndarray]:
    """As `frames`, of an animated file."""
    with Image.open(path) as image:
        if image.format == "GIF" and not _ends_as_gif(path):
            raise ValueError("it is cut short")  # between two frames, where Pillow sees an end like any other
        for number in itertools.count():
            try:
                image.seek(number)
            except EOFError:
                break
            image.load()
            yield image_files.fit(image, shape)
            if (
                image.format == "GIF" and image.mode == "L"
            ):  # Pillow misreads the next frame if that has a palette, unless:
                image.putpalette(GREYS)
        if number != getattr(image, "n_frames", 1):
            raise ValueError("it is cut short")


def stream(path: Path, shape: Shape) -> Iterator[np.ndarray]:
    """As `animated`, but raises UserError at a frame that cannot be read, and for a file of one frame."""
    number = 0
    try:
        for frame in animated(path, shape):
            yield frame
            number += 1
    except image_files.UNREADABLE as error:
        raise UserError(f"clip {path} cannot be read: {image_files.reason(error)}") from None
    if number < 2:
        raise UserError(f"clip {path} has one frame; a clip has two or more")


def _ends_as_gif(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read().rstrip(b"\0").endswith(b";")


def count(clip: ClipFile, shape: Shape) -> int:
    """The number of frames, each of which is read. Raises one of `image_files.UNREADABLE`, ValueError if there are fewer than
    two or those of a folder differ in size."""
    sizes: dict[tuple[int, int], Path] = {}
    for path in clip.frames:
        with Image.open(path) as image:
            sizes.setdefault(image.size, path)
    if len(sizes) > 1:
        (first, a), (second, b) = list(sizes.items())[:2]
        raise ValueError(
            f"frames of different sizes: {a.name} has {first[0]} x {first[1]} pixels, {b.name} {second[0]} x {second[1]}"
        )
    number = sum(1 for _ in frames(clip, shape))
    if number < 2:
        raise ValueError("one frame; a clip has two or more")
    return number


def readable(clips: Sequence[ClipFile], shape: Shape) -> tuple[list[ClipFile], list[int], list[str]]:
    """-> the clips that can be read to their end, their numbers of frames, and a line for each of the others."""

    def attempt(clip: ClipFile) -> tuple[int, str]:
        try:
            return count(clip, shape), ""
        except image_files.UNREADABLE as error:
            return 0, f"{clip.name}: {image_files.reason(error)}"

    outcomes = OrderedMap(attempt)(clips)
    kept = [clip for clip, (number, _) in zip(clips, outcomes, strict=True) if number]
    return kept, [number for number, _ in outcomes if number], [fault for _, fault in outcomes if fault]


def take(clip: ClipFile, numbers: np.ndarray, shape: Shape) -> np.ndarray:
    """Frames by their numbers, u8[k, Y, X, C]; no others are kept in memory. Raises UserError if one cannot be read."""
    wanted = set(numbers.tolist())
    try:
        kept = {i: frame for i, frame in zip(range(max(wanted) + 1), frames(clip, shape), strict=False) if i in wanted}
    except image_files.UNREADABLE as error:
        raise UserError(f"clip {clip.path} cannot be read: {image_files.reason(error)}") from None
    return np.stack([kept[i] for i in numbers.tolist()])


class ClipFiles:
    """Clips that are read from their files on access; those of fewer bytes together than `in_memory`, once.

    lengths  their numbers of frames
    """

    def __init__(
        self, clips: Sequence[ClipFile], lengths: Sequence[int], labels: np.ndarray, shape: Shape, in_memory: int
    ):
        self.shape, self._clips, self._lengths, self._labels = shape, clips, lengths, labels.astype(np.int32)
        small = sum(lengths) * int(np.prod(shape)) <= in_memory
        self._pixels = OrderedMap(self._whole)(range(len(clips))) if small else None

    def __len__(self) -> int:
        return len(self._clips)

    def labels(self) -> np.ndarray:
        return self._labels

    def length(self, index: int) -> int:
        return self._lengths[index]

    def _whole(self, index: int) -> np.ndarray:
        return take(self._clips[index], np.arange(self._lengths[index]), self.shape)

    def frames(self, index: int, numbers: np.ndarray) -> np.ndarray:
        if self._pixels is not None:
            return self._pixels[index][numbers]
        return take(self._clips[index], numbers, self.shape)

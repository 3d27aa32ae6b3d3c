"""Labelled clips by part: generated moving digits, or the user's own files.

Config: source (`SOURCES`), size (moving_digits: pixels a side of the canvas; files: pixels or [Y, X]). For moving_digits also
count, of clips to train on, and length, in frames. For files path, channels (1 or 3), valid_fraction and test_fraction (0.1).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from research.data import user_files
from research.data.images import image_files, labelled
from research.data.images.image_files import Shape
from research.data.video import clip_files, moving_digits
from research.data.video.sampling import Clips
from research.util.errors import UserError, nearest

HELD_OUT = 500  # generated clips to validate on, and to test with


@dataclasses.dataclass(frozen=True)
class Videos:
    """A data set: the clips of train and perhaps valid and test; `shape` is a frame's (Y, X, C)."""

    parts: Mapping[str, Clips]
    classes: tuple[str, ...]
    shape: Shape
    report: list[str]


SOURCES: dict[str, Callable[[Mapping[str, Any], int], Videos]] = {}


def load(cfg: Mapping[str, Any], seed: int) -> Videos:
    """The data set `cfg["source"]`. Raises UserError if there is none."""
    if cfg["source"] not in SOURCES:
        raise UserError(f"no source of clips {cfg['source']!r}{nearest(cfg['source'], SOURCES)}")
    return SOURCES[cfg["source"]](cfg, seed)


def _source(function: Callable) -> Callable:
    SOURCES[function.__name__] = function
    return function


@_source
def digits_motion(cfg: Mapping[str, Any], seed: int) -> Videos:
    """A moving digit, by its motion: drawn by (seed, index), without a download."""
    size, length = user_files.option(cfg, "size", 16), user_files.option(cfg, "length", 24)
    train = user_files.option(cfg, "count", 2_000)
    check_canvas(size, length)
    if train < 1:
        raise UserError(f"data.count = {train}: at least 1 clip")
    counts = dict(zip(moving_digits.PARTS, (train, HELD_OUT, HELD_OUT), strict=True))
    parts = {part: moving_digits.MovingDigits(part, n, length, size, seed) for part, n in counts.items()}
    return _videos("moving digits, drawn by seed and index", parts, moving_digits.MOTIONS, (size, size, 1), [])


def check_canvas(size: Any, length: Any) -> None:
    """Raises UserError for a canvas smaller than a digit, or one that is not square, and for a clip of one frame."""
    if not isinstance(size, int) or size < 8:
        raise UserError(f"data.size = {size}: one number, at least the 8 pixels of a digit")
    if length < 2:
        raise UserError(f"data.length = {length}: at least 2 frames")


@_source
def files(cfg: Mapping[str, Any], seed: int) -> Videos:
    """The user's own clips: a folder for each class, in it animated files and folders of numbered frames.

    The class folders may be in folders train, valid and test; parts that are not given are cut from train by
    `images.labelled.split`. The default size is the first frame's. Links are followed; hidden files are skipped.
    """
    root = user_files.root(cfg)
    if not root.is_dir():
        raise UserError(f"data.path = {root}: want a folder with a folder for each class")
    clips, faults, others = clip_files.listed(root)
    shape = labelled.shape_option(
        cfg, image_files.first_size((clip.frames or (clip.path,))[0] for clip in clips) or (1, 1)
    )
    clips, lengths, unreadable = clip_files.readable(clips, shape)
    faults += unreadable
    if not clips:
        why = [*faults, *(line.partition("  ")[2] for line in others), "no file of a class"]
        raise UserError(f"data.path = {root}: no clip found ({why[0]})")
    classes, labels = np.unique([clip.label for clip in clips], return_inverse=True)
    rows = labelled.parts_of([clip.name for clip in clips], [clip.part for clip in clips], labels, cfg)
    parts = {
        part: clip_files.ClipFiles(
            [clips[i] for i in chosen], [lengths[i] for i in chosen], labels[chosen], shape, labelled.IN_MEMORY
        )
        for part, chosen in rows.items()
        if len(chosen)
    }
    if "train" not in parts:
        raise UserError(f"data.path = {root}: no clip to train on")
    report = [
        f"frames   {min(lengths)} to {max(lengths)} a clip",
        "fitted   scaled to cover that size, cut at the centre",
        *user_files.listed("skipped ", faults),
        *others,
    ]
    return _videos(str(root), parts, tuple(map(str, classes)), shape, report)


def _videos(title: str, parts: Mapping[str, Clips], classes: tuple[str, ...], shape: Shape, more: list[str]) -> Videos:
    counts = np.bincount(np.concatenate([part.labels() for part in parts.values()]), minlength=len(classes))
    each = ", ".join(f"{name} {n:,}" for name, n in list(zip(classes, counts, strict=True))[:12])
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in parts.items())
    report = [
        f"source   {title}: {counts.sum():,} clips of {' x '.join(map(str, shape))}, {len(classes)} classes",
        f"classes  {each}{f' and {len(classes) - 12} more' if len(classes) > 12 else ''}",
        f"split    {sizes}",
        *more,
    ]
    return Videos(parts, classes, shape, report)

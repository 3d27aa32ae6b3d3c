"""Data sets of pictures with boxes, by name: generated digits, BCCD, and a user's own files in three formats."""

from collections.abc import Callable, Mapping
from typing import Any

from research.data import user_files
from research.data.boxes import annotated, bccd, coco, digits, voc, yolo
from research.data.boxes.annotated import BoxData
from research.data.images.image_files import Shape
from research.util.errors import UserError, nearest


def load(cfg: Mapping[str, Any], seed: int) -> BoxData:
    """The data set `cfg["source"]`, on canvases of `size` pixels, or (Y, X). Raises UserError if there is none."""
    source = cfg["source"]
    if source == "digits":
        return _digits(cfg, seed)
    if source not in READERS:
        raise UserError(f"no source of boxes {source!r}{nearest(source, ['digits', *READERS])}")
    title, listing = READERS[source]
    return annotated.load(title, listing(cfg), cfg, shape(cfg))


def shape(cfg: Mapping[str, Any]) -> Shape:
    """(Y, X, C) of the canvas. Raises UserError for a size or a number of channels that is none."""
    size, channels = cfg["size"], user_files.option(cfg, "channels", 3)
    rows, columns = (size, size) if isinstance(size, int) else size
    if rows < 1 or columns < 1 or channels not in (1, 3):
        raise UserError(f"data.size = {size}, data.channels = {channels}: above 0, and 1 or 3")
    return int(rows), int(columns), int(channels)


READERS: dict[str, tuple[str, Callable]] = {
    "bccd": ("BCCD", lambda cfg: bccd.listing()),
    "voc": ("VOC", lambda cfg: voc.listing(user_files.root(cfg))),
    "yolo": ("YOLO", lambda cfg: yolo.listing(user_files.root(cfg))),
    "coco": ("COCO", lambda cfg: coco.listing(user_files.root(cfg))),
}


def _digits(cfg: Mapping[str, Any], seed: int) -> BoxData:
    size = cfg["size"]
    if not isinstance(size, int):
        raise UserError(f"data.size = {size}: the canvas of digits is square; give one number")
    parts = {part: digits.DigitCanvas(part, size, seed) for part in digits.COUNTS}
    counts = ", ".join(f"{len(source):,} {part}" for part, source in parts.items())
    report = [
        f"source   digits: 1 to {digits.MOST} of scikit-learn's digits on {size} x {size} pixels, drawn by seed and index",
        f"split    {counts}",
    ]
    return BoxData(parts, tuple("0123456789"), (size, size, 1), report)

"""YOLO's text files: `class x y width height` a line, the centre and sides as shares of the picture's, classes from 0.

A folder with images/ and labels/, each perhaps with folders train, val and test; or those, with images/ and labels/ in each.
The names of the classes are the lines of classes.txt, in the folder itself or in labels/.
"""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from research.data import user_files
from research.data.boxes.annotated import Listed, annotated
from research.data.images.image_files import SUFFIXES, UNREADABLE
from research.util.errors import UserError

NAMES = ("classes.txt", "labels/classes.txt", "obj.names")


def parse(text: str, classes: Sequence[str]) -> list[tuple[str, list[float]]]:
    """(class, (x, y, width, height) as shares) of each line that is not blank. Raises ValueError with the reason."""
    out = []
    for number, line in enumerate(user_files.lines(text), 1):
        if not (cells := line.split()):
            continue
        if len(cells) != 5:
            what = "an outline" if len(cells) > 6 and len(cells) % 2 else f"{len(cells)} numbers"
            raise ValueError(f"line {number} holds {what}; a box is: class x y width height")
        try:
            label, shares = int(cells[0]), [float(cell) for cell in cells[1:]]
        except ValueError:
            raise ValueError(f"line {number}: {line.strip()[:60]!r} are not a whole number and four numbers") from None
        if not 0 <= label < len(classes):
            raise ValueError(f"line {number}: class {label}; there are {len(classes)}, numbered from 0")
        if not all(-1 <= share <= 2 for share in shares):  # also what is not a number
            raise ValueError(f"line {number}: {cells[1:]} are no shares of a picture's sides; pixels are not read")
        out.append((classes[label], shares))
    return out


def listing(root: Path) -> Listed:
    """Raises UserError if the folder has no images, or no file names its classes."""
    listed = Listed([], _classes(root))
    files, listed.faults = user_files.listing(root)
    pictures = [f for f in files if f.suffix.lower() in SUFFIXES and "images" in f.relative_to(root).parts[:-1]]
    if not pictures:
        raise UserError(f"data.path = {root} has no pictures in a folder images")
    labels = {f for f in files if f.suffix.lower() == ".txt" and "labels" in f.relative_to(root).parts[:-1]}
    empty = 0
    for picture in pictures:
        name = picture.relative_to(root)
        file = root / _labels_of(name)
        part = next((user_files.PARTS[p.lower()] for p in name.parts[:-1] if p.lower() in user_files.PARTS), "")
        try:
            found = parse(user_files.text(file), listed.classes or []) if file in labels else []
            boxes = [(label, _corners(shares, picture), False) for label, shares in found]
        except UNREADABLE as error:
            listed.faults.append(f"{name}: {error}")
            continue
        empty += not boxes
        listed.rows.append(annotated(picture, name.as_posix(), boxes, part))
    lost = labels - {root / _labels_of(picture.relative_to(root)) for picture in pictures}
    listed.faults += [
        f"{file.relative_to(root).as_posix()}: no picture of that name in images"
        for file in sorted(lost)
        if file.name != "classes.txt"
    ]
    if empty:
        listed.report.append(
            f"note     {empty} pictures have no file of boxes, or an empty one: there is nothing to find in them"
        )
    return listed


def _labels_of(picture: Path) -> Path:
    """images/a.png -> labels/a.txt."""
    parts = picture.parts
    at = parts.index("images")
    return Path(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(".txt")


def _corners(shares: Sequence[float], picture: Path) -> list[float]:
    with Image.open(picture) as image:
        width, height = ImageOps.exif_transpose(image).size
    x, y, w, h = shares
    return [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]


def _classes(root: Path) -> list[str]:
    for name in NAMES:
        if (root / name).is_file():
            names = [line.strip() for line in user_files.lines(user_files.read(root / name)) if line.strip()]
            if not names or len(set(names)) < len(names):
                raise UserError(f"{root / name}: {'a class stands there twice' if names else 'it names no class'}")
            return names
    raise UserError(f"data.path = {root}: no file names the classes; write their names, one a line, into classes.txt")

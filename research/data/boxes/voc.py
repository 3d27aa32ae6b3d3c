"""PASCAL VOC's XML: a folder with Annotations/, JPEGImages/ and, for its parts, ImageSets/Main/{train,val,test}.txt."""

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from research.data import user_files
from research.data.boxes.annotated import Listed, annotated
from research.data.images.image_files import SUFFIXES
from research.util.errors import UserError

LARGEST = 16 << 20  # characters of an annotation


def parse(text: str) -> ElementTree.Element:
    """An XML text without entities of its own -> its root. Raises ValueError with the reason in one line."""
    if len(text) > LARGEST:
        raise ValueError(f"{len(text):,} characters; at most {LARGEST:,} are read")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        # Without a document type there are no entities: neither files nor endless texts come in by them.
        raise ValueError("it declares a document type or entities, which are not read")
    try:
        return ElementTree.XML(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML ({error})") from None


def objects(root: ElementTree.Element) -> list[tuple[str, list[float], bool]]:
    """(class, (xmin, ymin, xmax, ymax) as they stand, difficult) of each object. Raises ValueError with the reason."""
    out = []
    for number, element in enumerate(root.findall("object"), 1):
        name, box = (element.findtext("name") or "").strip(), element.find("bndbox")
        if not name or box is None:
            raise ValueError(f"object {number} has no {'bndbox' if name else 'name'}")
        sides = [(box.findtext(side) or "").strip() for side in ("xmin", "ymin", "xmax", "ymax")]
        try:
            corners = [float(side) for side in sides]
        except ValueError:
            raise ValueError(f"object {number}: {sides} are no four numbers") from None
        out.append((name, corners, (element.findtext("difficult") or "0").strip() == "1"))
    return out


def listing(root: Path) -> Listed:
    """The pictures of a folder in VOC's layout. Raises UserError if it has no Annotations/."""
    if not (root / "Annotations").is_dir():
        raise UserError(f"data.path = {root} has no folder Annotations of XML files")
    files, faults = user_files.listing(root / "Annotations")
    parts, pictures = _parts(root), _pictures(root)
    listed = Listed([], faults=faults)
    listed.report += user_files.ignored([f for f in files if f.suffix.lower() != ".xml"], (".xml",))
    for file in (file for file in files if file.suffix.lower() == ".xml"):
        if (picture := pictures.get(file.stem)) is None:
            listed.faults.append(f"{file.name}: no picture of that name in JPEGImages")
            continue
        try:
            found = objects(parse(user_files.text(file)))
        except ValueError as error:
            listed.faults.append(f"{file.name}: {error}")
            continue
        if parts and file.stem not in parts:
            listed.faults.append(f"{file.name}: in none of ImageSets/Main's train, val and test")
            continue
        listed.rows.append(annotated(picture, picture.relative_to(root).as_posix(), found, parts.get(file.stem, "")))
    read = {file.stem for file in files}
    listed.faults += [f"{path.name}: no annotation" for stem, path in pictures.items() if stem not in read]
    listed.faults += [f"{name}: in ImageSets/Main, but no annotation" for name in sorted(set(parts) - read)]
    return listed


def _pictures(root: Path) -> Mapping[str, Path]:
    folder = root / "JPEGImages"
    files = user_files.listing(folder)[0] if folder.is_dir() else []
    return {file.stem: file for file in files if file.suffix.lower() in SUFFIXES}


def _parts(root: Path) -> dict[str, str]:
    """{a picture's stem: its part}. Raises UserError for a picture in two parts."""
    out: dict[str, str] = {}
    for part in ("train", "val", "test"):
        file = root / "ImageSets" / "Main" / f"{part}.txt"
        for line in user_files.lines(user_files.read(file)) if file.is_file() else []:
            if not (name := line.strip()):
                continue
            if out.setdefault(name, user_files.PARTS[part]) != user_files.PARTS[part]:
                raise UserError(f"{file}: {name} is also in another part; a picture has one")
    return out

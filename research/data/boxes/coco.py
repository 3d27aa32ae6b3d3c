"""COCO's JSON: pictures, categories and annotations with `bbox` [x, y, width, height] in pixels; crowds are ignored boxes.

A .json, or a folder with one for each part: its name or that of its folder has the word train, val or test in it. Pictures are
looked for beside the .json, in a folder images there, in folders of the .json's name, and above.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from research.data import user_files
from research.data.boxes.annotated import Listed, annotated
from research.util.errors import UserError


def listing(root: Path) -> Listed:
    """Raises UserError if there is no such file, if one has not COCO's lists, or if two disagree on the categories."""
    files = [root]
    if root.is_dir():
        files = [file for file in user_files.listing(root)[0] if file.suffix.lower() == ".json"]
        files = [file for file in files if part(file.relative_to(root))] or files
    if not files:
        raise UserError(f"data.path = {root} holds no .json")
    listed = Listed([])
    for file in files:
        value = user_files.json_value(file)
        _check(value, file)
        categories = {c["id"]: str(c["name"]).strip() for c in value["categories"]}
        classes = [categories[number] for number in sorted(categories)]
        if len(set(classes)) < len(value["categories"]):
            raise UserError(f"{file}: two categories have one id or one name")
        if listed.classes not in (None, classes):
            raise UserError(f"{file}: its categories differ from those of {files[0]}")
        listed.classes = classes
        above = file.parent.parent if file.parent.name == "annotations" else file.parent
        if root.is_dir():
            _read(value, categories, file, root, part(file.relative_to(root)), listed)
        else:
            _read(value, categories, file, above, "", listed)
    return listed


def part(file: Path) -> str:
    """train, valid or test, from the words of a file's name and its folder's inside the user's; empty if there is none.

    >>> part(Path("annotations/instances_val2017.json")), part(Path("train/_annotations.coco.json")), part(Path("all.json"))
    ('valid', 'train', '')
    """
    words = re.findall("[a-z]+", f"{file.stem} {file.parent.name}".lower())
    return next((user_files.PARTS[word] for word in words if word in user_files.PARTS), "")


def _read(value: Mapping, categories: Mapping[Any, str], file: Path, root: Path, of_part: str, listed: Listed) -> None:
    boxes: dict[Any, list] = {image["id"]: [] for image in value["images"]}
    if len(boxes) < len(value["images"]):
        raise UserError(f"{file}: two pictures have one id")
    for number, a in enumerate(value["annotations"]):
        where = f"{file.name}: annotation {a.get('id', number) if isinstance(a, Mapping) else number}"
        if fault := _fault(a, boxes, categories):
            listed.faults.append(f"{where}: {fault}")
            continue
        x, y, width, height = a["bbox"]
        boxes[a["image_id"]].append(
            (categories[a["category_id"]], (x, y, x + width, y + height), bool(a.get("iscrowd")))
        )
    for image in value["images"]:
        picture = _picture(file, root, image["file_name"])
        name = picture.relative_to(root).as_posix() if picture.is_relative_to(root) else image["file_name"]
        listed.rows.append(annotated(picture, name, boxes[image["id"]], of_part))


def _fault(a: Any, boxes: Mapping, categories: Mapping[Any, str]) -> str:
    if not isinstance(a, Mapping) or not _hashable(a.get("image_id")) or a["image_id"] not in boxes:
        return "its picture's id is not among the pictures"
    if not _hashable(a.get("category_id")) or a["category_id"] not in categories:
        return f"category {a.get('category_id')!r} is not among {', '.join(map(str, sorted(categories)[:12]))}"
    box = a.get("bbox")
    if not isinstance(box, Sequence) or len(box) != 4 or not all(_number(v) for v in box):
        return f"bbox {box!r} is not four numbers"
    return ""


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _hashable(value: Any) -> bool:
    return isinstance(value, int | str)


def _picture(file: Path, root: Path, name: str) -> Path:
    """Where there is a file of that name, inside the user's folder; else beside the .json, where it will be missing."""
    folders = [file.parent, file.parent / "images", root, root / "images"]
    words = [re.sub(r"^(instances|person_keypoints|captions)_", "", file.stem)]
    folders += [above / word for above in (file.parent.parent, root, root / "images") for word in words]
    for folder in folders:
        path = (folder / name).resolve()
        if path.is_relative_to(root.resolve()) and path.is_file():
            return folder / name
    return file.parent / Path(name).name


def _check(value: Any, file: Path) -> None:
    if not isinstance(value, Mapping):
        raise UserError(f"{file}: no object with images, categories and annotations")
    for key, needed in {"images": ("id", "file_name"), "categories": ("id", "name"), "annotations": ()}.items():
        rows = value.get(key)
        if not isinstance(rows, list):
            raise UserError(f"{file} has no list {key!r}; COCO's has images, categories and annotations")
        for row in rows:
            if needed and not (isinstance(row, Mapping) and all(_hashable(row.get(name)) for name in needed)):
                raise UserError(f"{file}: {key} has {str(row)[:60]!r} without {' or '.join(needed)}")
    if len({type(c["id"]) for c in value["categories"]}) > 1:
        raise UserError(f"{file}: ids of categories are numbers and texts; make them of one kind")

"""COCO's JSON by hand: ids that begin anywhere, crowds, parts, pictures beside and above, annotations that are none."""

import json

import pytest
from PIL import Image

from research.data.boxes import coco
from research.util.errors import UserError


def value(first=0, **changes):
    """Two categories whose ids begin at `first`; a picture with a box and a crowd, another with nothing."""
    return {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
        "categories": [{"id": first + 1, "name": "dog"}, {"id": first, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": first + 1, "bbox": [1, 2, 3, 4.5], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": first, "bbox": [0, 0, 8, 8], "iscrowd": 1},
        ],
    } | changes


def write(path, content, *pictures):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    for picture in pictures:
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10)).save(picture)
    return path


@pytest.mark.parametrize("first", [0, 1, 17])
def test_ids_may_begin_anywhere(tmp_path, first):
    file = write(tmp_path / "all.json", value(first), tmp_path / "a.png", tmp_path / "images" / "b.png")
    listed = coco.listing(file)
    a, b = listed.rows
    assert listed.classes == ["cat", "dog"]
    assert (a.name, a.labels, a.part, b.name, b.labels) == ("a.png", ["dog", "cat"], "", "images/b.png", [])
    assert a.boxes.tolist() == [[1, 2, 4, 6.5], [0, 0, 8, 8]]
    assert a.ignored.tolist() == [False, True]
    assert listed.faults == []


@pytest.mark.parametrize(
    ("json_name", "picture", "part"),
    [
        ("annotations/instances_train2017.json", "train2017/a.png", "train"),
        ("annotations/instances_val2017.json", "images/val2017/a.png", "valid"),
        ("test/_annotations.coco.json", "test/a.png", "test"),
    ],
)
def test_the_usual_folders(tmp_path, json_name, picture, part):
    write(tmp_path / json_name, value(), tmp_path / picture)
    (row, _) = coco.listing(tmp_path).rows
    assert (row.name, row.part) == (picture, part)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"image_id": 8}, "id is not among the pictures"),
        ({"image_id": [7]}, "id is not among the pictures"),
        ({"category_id": 5}, "category 5 is not among 0, 1"),
        ({"bbox": [1, 2, 3]}, "is not four numbers"),
        ({"bbox": [1, 2, 3, "4"]}, "is not four numbers"),
        ({"bbox": None}, "is not four numbers"),
    ],
)
def test_bad_annotations_are_named(tmp_path, change, fault):
    content = value()
    content["annotations"][0] |= change
    listed = coco.listing(write(tmp_path / "all.json", content))
    assert listed.rows[0].labels == ["cat"]
    assert len(listed.faults) == 1
    assert listed.faults[0].startswith("all.json: annotation 1: ")
    assert fault in listed.faults[0]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ([], "no object"),
        ({"images": []}, "no list 'categories'"),
        (value(images=[{"id": 1}]), "without id or file_name"),
        (value(categories=[{"id": 0, "name": "a"}, {"id": 1, "name": "a"}]), "one id or one name"),
        (value(categories=[{"id": 0, "name": "a"}, {"id": "1", "name": "b"}]), "of one kind"),
        (value(images=[{"id": 7, "file_name": "a"}, {"id": 7, "file_name": "b"}]), "two pictures have one id"),
    ],
)
def test_bad_files(tmp_path, content, fault):
    with pytest.raises(UserError, match=fault):
        coco.listing(write(tmp_path / "all.json", content))


def test_parts_agree_on_the_categories(tmp_path):
    write(tmp_path / "train.json", value())
    write(tmp_path / "val.json", value(categories=[{"id": 0, "name": "cat"}, {"id": 1, "name": "cow"}]))
    with pytest.raises(UserError, match="differ from those of"):
        coco.listing(tmp_path)


def test_no_picture_from_outside_the_folder(tmp_path):
    root = tmp_path / "mine"
    content = value(images=[{"id": 7, "file_name": "../secret.png"}])
    write(root / "all.json", content, tmp_path / "secret.png")
    assert coco.listing(root).rows[0].picture == root / "secret.png"  # which is missing
    with pytest.raises(UserError, match="holds no .json"):
        coco.listing(write(tmp_path / "empty" / "a.txt", {}).parent)

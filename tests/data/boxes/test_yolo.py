"""YOLO's lines by hand, folders in both orders, and lines that are none."""

import pytest
from PIL import Image

from research.data.boxes import yolo
from research.util.errors import UserError


def write(root, name, text=None):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        Image.new("RGB", (40, 20)).save(path)
    else:
        path.write_text(text)


@pytest.mark.parametrize(("order", "part"), [("{0}/train/{1}", "train"), ("val/{0}/{1}", "valid"), ("{0}/{1}", "")])
def test_a_folder(tmp_path, order, part):
    """Centre (.5, .5) and sides (.5, .2) of 40 x 20 pixels: from (10, 8) to (30, 12)."""
    write(tmp_path, "classes.txt", "cat\ndog\n")
    for name in ("a.png", "b.png"):
        write(tmp_path, order.format("images", name))
    write(tmp_path, order.format("labels", "a.txt"), "1 0.5 0.5 0.5 0.2\n\n0 0.25 0.5 0.5 1\n")
    write(tmp_path, order.format("labels", "lost.txt"), "0 .5 .5 .5 .5\n")
    listed = yolo.listing(tmp_path)
    a, b = listed.rows
    assert listed.classes == ["cat", "dog"]
    assert (a.labels, b.labels, a.part) == (["dog", "cat"], [], part)
    assert a.boxes.tolist() == [[10, 8, 30, 12], [0, 0, 20, 20]]
    assert listed.report == [
        "note     1 pictures have no file of boxes, or an empty one: there is nothing to find in them"
    ]
    assert [fault.split(": ")[1] for fault in listed.faults] == ["no picture of that name in images"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("2 .5 .5 .1 .1", "line 1: class 2; there are 2, numbered from 0"),
        ("-1 .5 .5 .1 .1", "class -1"),
        ("0 .5 .5 .1", "4 numbers"),
        ("0 .1 .1 .2 .1 .2 .2", "an outline"),
        ("cat .5 .5 .1 .1", "whole number"),
        ("0 .5 .5 nan .1", "no shares"),
        ("0 320 240 64 64", "pixels are not read"),
    ],
)
def test_bad_lines(line, fault):
    with pytest.raises(ValueError, match=fault):
        yolo.parse(line, ["cat", "dog"])


def test_a_bad_file_is_named_and_its_picture_left_out(tmp_path):
    write(tmp_path, "classes.txt", "cat")
    write(tmp_path, "images/a.png")
    write(tmp_path, "labels/a.txt", "1 .5 .5 .1 .1")
    listed = yolo.listing(tmp_path)
    assert listed.rows == []
    assert listed.faults == ["images/a.png: line 1: class 1; there are 1, numbered from 0"]


@pytest.mark.parametrize(
    ("text", "fault"), [(None, "no file names the classes"), ("cat\ncat\n", "twice"), ("\n", "no class")]
)
def test_bad_classes(tmp_path, text, fault):
    write(tmp_path, "images/a.png")
    if text is not None:
        write(tmp_path, "classes.txt", text)
    with pytest.raises(UserError, match=fault):
        yolo.listing(tmp_path)


def test_no_pictures(tmp_path):
    write(tmp_path, "classes.txt", "cat")
    with pytest.raises(UserError, match="no pictures in a folder images"):
        yolo.listing(tmp_path)

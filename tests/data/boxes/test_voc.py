"""VOC's XML by hand: boxes and difficult ones, parts, files that do not belong together, and no entities."""

import pytest
from PIL import Image

from research.data.boxes import voc
from research.util.errors import UserError

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def write(root, stem, *objects, picture=True, text=None):
    for folder in ("Annotations", "JPEGImages"):
        (root / folder).mkdir(exist_ok=True)
    body = "".join(OBJECT.format(*each) for each in objects)
    (root / "Annotations" / f"{stem}.xml").write_text(text or f"<annotation>{body}</annotation>")
    if picture:
        Image.new("RGB", (20, 10)).save(root / "JPEGImages" / f"{stem}.jpg")


def test_objects():
    root = voc.parse(
        f"<annotation>{OBJECT.format('cat', 0, 1, 2, 3.5, 4)}{OBJECT.format(' dog ', 1, 5, 6, 7, 8)}</annotation>"
    )
    assert voc.objects(root) == [("cat", [1, 2, 3.5, 4], False), ("dog", [5, 6, 7, 8], True)]
    assert voc.objects(voc.parse("<annotation/>")) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("<annotation><object>", "not XML"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>', "entities"),
        ('<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>', "entities"),
        ("<annotation>&b;</annotation>", "not XML"),
        ("<annotation><object><name>a</name></object></annotation>", "object 1 has no bndbox"),
        ("<annotation><object><bndbox/></object></annotation>", "object 1 has no name"),
        (f"<annotation>{OBJECT.format('a', 0, 1, 'two', 3, 4)}</annotation>", "no four numbers"),
    ],
)
def test_bad_annotations(text, fault):
    with pytest.raises(ValueError, match=fault):
        voc.objects(voc.parse(text))


def test_a_folder_with_parts(tmp_path):
    write(tmp_path, "a", ("cat", 0, 1, 2, 3, 4))
    write(tmp_path, "b")
    write(tmp_path, "c", ("cat", 0, 1, 2, 3, 4))
    write(tmp_path, "alone", picture=False)
    write(tmp_path, "bad", text="<annotation")
    Image.new("RGB", (20, 10)).save(tmp_path / "JPEGImages" / "bare.png")
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nbad\ngone\n")
    (lists / "val.txt").write_text("b\n")
    listed = voc.listing(tmp_path)
    assert [(row.name, row.part, row.labels) for row in listed.rows] == [
        ("JPEGImages/a.jpg", "train", ["cat"]),
        ("JPEGImages/b.jpg", "valid", []),
    ]
    text = "\n".join(listed.faults)
    for fault in (
        "alone.xml: no picture",
        "bad.xml: not XML",
        "c.xml: in none of",
        "bare.png: no annotation",
        "gone: in ImageSets",
    ):
        assert fault in text


def test_a_picture_in_two_parts(tmp_path):
    write(tmp_path, "a")
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "test.txt").write_text("a\n")
    with pytest.raises(UserError, match="a is also in another part"):
        voc.listing(tmp_path)


def test_no_annotations(tmp_path):
    with pytest.raises(UserError, match="no folder Annotations"):
        voc.listing(tmp_path)

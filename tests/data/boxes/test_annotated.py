"""Faulty boxes and pictures are named and left out, the others are padded arrays, parts are those of the data or by name."""

import io

import numpy as np
import pytest
from PIL import Image

from research.data.boxes import annotated
from research.util.errors import UserError

SHAPE = (16, 16, 3)


def png(width=32, height=16, colour="red"):
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, "PNG")
    return out.getvalue()


def tiff(value):
    out = io.BytesIO()
    Image.fromarray(np.full((16, 32), value, np.float32)).save(out, "TIFF")
    return out.getvalue()


def row(name, *boxes, part="", picture=None):
    return annotated.annotated(picture or png(), name, boxes, part)


def load(*rows, classes=None, **cfg):
    return annotated.load("test", annotated.Listed(list(rows), classes), cfg, SHAPE)


def test_arrays_are_padded_and_truths_are_in_the_pictures_pixels():
    data = load(
        row("a", ("cat", (0, 0, 32, 16), False), ("dog", (4, 2, 8, 6), False), part="train"),
        row("b", part="train"),
        row("c", ("dog", (0, 0, 4, 4), True), ("cat", (8, 8, 16, 16), False), part="valid"),
    )
    assert data.classes == ("cat", "dog")
    batch = data.parts["train"].gather(np.array([0, 1]))
    assert batch["image"].shape == (2, 16, 16, 3)
    np.testing.assert_allclose(batch["image"][0, 8, 8], [1, 0, 0])
    assert batch["boxes"][0].tolist() == [[0, 4, 16, 12], [2, 5, 4, 7]]  # halved, 4 pixels down
    assert batch["labels"].tolist() == [[0, 1], [0, 0]]
    assert batch["box_mask"].tolist() == [[1, 1], [0, 0]]
    assert batch["size"].tolist() == [[16, 32], [16, 32]]
    valid = data.parts["valid"]
    assert valid.gather(np.array([0]))["box_mask"].tolist() == [[1, 0]]  # the ignored one is not trained on
    truth = valid.truth(0)
    assert truth.boxes.tolist() == [[0, 0, 4, 4], [8, 8, 16, 16]]
    assert (truth.labels.tolist(), truth.ignored.tolist()) == ([1, 0], [True, False])
    assert any(line.startswith("empty    1 ") for line in data.report)
    assert any(line.startswith("ignored  1 ") for line in data.report)


def test_faulty_boxes_are_named_and_the_rest_stays():
    data = load(
        row(
            "a.png",
            ("cat", (4, 4, 4, 8), False),
            ("cat", (40, 0, 50, 8), False),
            ("cat", (8, 2, 2, 9), False),
            ("cat", (float("nan"), 0, 8, 8), False),
            ("cow", (0, 0, 8, 8), False),
            ("cat", (-4, 0, 8, 8), False),
        ),
        classes=["cat", "dog"],
        valid_fraction=0.0,
        test_fraction=0.0,
    )
    text = "\n".join(data.report)
    assert "left out 5" in text
    assert "a.png: box 1 (4, 4, 4, 8) has no area" in text
    assert "a.png: box 2 (40, 0, 50, 8) is outside its picture of 32 x 16" in text
    assert "a.png: box 3 (8, 2, 2, 9) has no area" in text
    assert "a.png: box 5 (0, 0, 8, 8): class 'cow' is not among those listed" in text
    assert "cut      1 boxes" in text
    assert "classes without a box: 1" in text
    assert data.parts["train"].truth(0).boxes.tolist() == [[0, 0, 8, 8]]


def test_unreadable_pictures_are_named(tmp_path):
    data = load(
        row("good", ("cat", (0, 0, 4, 4), False)),
        row("text", ("cat", (0, 0, 4, 4), False), picture=b"no picture"),
        row("short", ("cat", (0, 0, 4, 4), False), picture=png()[:60]),
        row("nan", ("cat", (0, 0, 4, 4), False), picture=tiff(np.nan)),
        row("lost", ("cat", (0, 0, 4, 4), False), picture=tmp_path / "lost.png"),
        valid_fraction=0.0, test_fraction=0.0,
    )  # fmt: skip
    text = "\n".join(data.report)
    assert "left out 4" in text
    assert "nan: it has values that are not finite" in text
    assert "lost: missing" in text
    assert len(data.parts["train"]) == 1


def test_a_picture_on_its_side_is_turned_and_so_are_its_sizes():
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a right angle
    Image.new("RGB", (32, 16)).save(out, "JPEG", exif=exif)
    data = load(
        row("a", ("cat", (0, 20, 16, 32), False), picture=out.getvalue()), valid_fraction=0.0, test_fraction=0.0
    )
    assert data.parts["train"].gather(np.array([0]))["size"].tolist() == [[32, 16]]


def test_parts_are_those_of_the_data_or_by_name():
    box = ("cat", (0, 0, 4, 4), False)
    names = [f"{i}.png" for i in range(20)]
    data = load(*(row(name, box) for name in names))
    assert {part: len(source) for part, source in data.parts.items()} == {"train": 16, "valid": 2, "test": 2}
    given = load(*(row(name, box, part="train") for name in names), row("t", box, part="test"))
    assert {part: len(source) for part, source in given.parts.items()} == {"train": 18, "valid": 2, "test": 1}
    full = load(row("a", box, part="train"), row("b", box, part="valid"))
    assert {part: len(source) for part, source in full.parts.items()} == {"train": 1, "valid": 1}


def test_nothing_to_train_on():
    with pytest.raises(UserError, match="no picture with a box to train on"):
        load(row("a"), row("b"))

"""One's own pictures and masks: read, scaled, and what cannot be used is named."""

import numpy as np
import pytest
from PIL import Image

from research.data.images import segmented
from research.util.errors import UserError


def rows(source):
    return source.gather(np.arange(len(source)), 0)


@pytest.fixture
def folder(tmp_path):
    """Five pictures of 4 x 6 whose left half is class 0 and right half class 1, one pixel void."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    label = np.repeat([[0, 0, 0, 1, 1, 1]], 4, 0).astype(np.uint8)
    label[0, 0] = 255
    for i in range(5):
        Image.fromarray(np.stack([100 * (label == 1)] * 3, -1).astype(np.uint8)).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(label).save(tmp_path / "masks" / f"{i}.png")
    return tmp_path


def load(folder, **more):
    return segmented.load({"source": "files", "path": str(folder), **more}, 0)


def test_a_folder(folder):
    data = load(folder, valid_fraction=0.2, test_fraction=0.2)
    assert {part: len(source) for part, source in data.parts.items()} == {"train": 3, "valid": 1, "test": 1}
    batch = rows(data.parts["train"])
    assert data.classes == ("0", "1") and data.shape == (4, 6, 3) and batch["label"][0, 0, 0] == 255
    np.testing.assert_allclose(batch["image"][..., 0], 100 / 255 * (batch["label"] == 1))


def test_scaled_masks_have_no_new_labels(folder):
    batch = rows(load(folder, size=(8, 12), channels=1, classes=("left", "right")).parts["train"])
    assert batch["image"].shape[1:] == (8, 12, 1) and set(np.unique(batch["label"])) == {0, 1, 255}


def test_parts_may_be_folders_and_masks_indexed(folder):
    for part in ("train", "test"):
        (folder / part).mkdir()
        for name in ("images", "masks"):
            (folder / part / name).mkdir()
            image = Image.open(folder / name / "0.png")
            if name == "masks":
                image = image.convert("P")
                image.putpalette([9, 9, 9, 200, 0, 0] + [0] * 762)  # its colours do not matter
                image.putdata(np.asarray(Image.open(folder / name / "0.png")).ravel().tolist())
            image.save(folder / part / name / "a.png")
    data = load(folder)
    assert {part: len(source) for part, source in data.parts.items()} == {"train": 1, "test": 1}
    np.testing.assert_array_equal(rows(data.parts["train"])["label"][0, 1], [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    "name, pixels, words",
    [
        ("masks/2.png", np.zeros((4, 5), np.uint8), "2.png has 4 x 5 pixels, its picture .* 4 x 6"),
        (
            "masks/2.png",
            np.full((4, 6), 7, np.uint8),
            "masks/2.png has the label 7: classes are 0 to 1, and 255 is void",
        ),
        ("masks/2.png", np.zeros((4, 6, 3), np.uint8), "a mask of mode RGB"),
        ("masks/extra.png", np.zeros((4, 6), np.uint8), "extra.png has no picture"),
        ("images/extra.png", np.zeros((4, 6), np.uint8), "extra.png has no mask"),
        ("images/2.jpg", np.zeros((4, 6), np.uint8), "have one name"),
    ],
)
def test_a_file_that_does_not_fit_is_named(folder, name, pixels, words):
    Image.fromarray(pixels).save(folder / name)
    with pytest.raises(UserError, match=words):
        load(folder, classes=("a", "b"))


def test_sizes_that_differ_are_named(folder):
    for name in ("images", "masks"):
        Image.new("L", (9, 9)).save(folder / name / "5.png")
    with pytest.raises(UserError, match="5.png has 9 x 9 pixels, .*0.png has 4 x 6: set data.size"):
        load(folder)
    assert load(folder, size=8).shape == (8, 8, 3)


def test_other_mistakes(folder):
    for key, value, words in [
        ("channels", 4, "data.channels = 4"),
        ("classes", ("a",), "data.classes: 1 of them"),
        ("path", str(folder / "images"), "has no folder images"),
    ]:
        with pytest.raises(UserError, match=words):
            load(**{"folder": folder, key: value} if key != "path" else {"folder": value})


def test_a_pair_that_cannot_be_read_is_left_out_and_named(folder):
    (folder / "images" / "0.png").write_bytes(b"no picture")
    (folder / "masks" / "3.png").write_bytes((folder / "masks" / "3.png").read_bytes()[:60])
    data = load(folder, valid_fraction=0.3, test_fraction=0.3)
    assert sum(len(source) for source in data.parts.values()) == 3
    assert [line.split(":")[0].strip() for line in data.report[-3:]] == ["left out 2", "images/0.png", "masks/3.png"]
    for i in range(5):
        (folder / "images" / f"{i}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"no picture with its mask can be read \(images/0.png: cannot identify"):
        load(folder)


@pytest.mark.parametrize("size", [None, (8, 12)])
def test_other_modes_scaled_and_not(folder, size):
    """16 bits are not clipped at 255, and what is transparent is white: by hand, 30,000 / 257 = 116.7."""
    Image.fromarray(np.full((4, 6), 30_000, np.uint16)).save(folder / "images" / "0.png")
    Image.new("RGBA", (6, 4), (10, 20, 30, 0)).save(folder / "images" / "1.png")
    Image.new("LA", (6, 4), (40, 255)).save(folder / "images" / "2.png")
    parts = load(folder, size=size, valid_fraction=0.2, test_fraction=0.2).parts.values()
    pictures = [image for part in parts for image in rows(part)["image"]]
    assert len(pictures) == 5 and {image.shape for image in pictures} == {(*(size or (4, 6)), 3)}
    values = {tuple(np.rint(255 * image[0, 0])) for image in pictures if np.ptp(image, (0, 1)).max() == 0}
    assert values == {(116,) * 3, (255,) * 3, (40,) * 3}


@pytest.fixture
def numbered(folder):
    """The same pictures with masks of 16 bits: of the right half two objects that touch, 300 above 7; the last mask is empty."""
    mask = np.zeros((4, 6), np.uint16)
    mask[:2, 3:], mask[2:, 3:] = 300, 7
    for i in range(5):
        Image.fromarray(mask * np.uint16(i < 4)).save(folder / "masks" / f"{i}.png")
    return folder


def test_masks_may_number_objects(numbered):
    data = load(numbered, masks="objects", valid_fraction=0.2, test_fraction=0.2)
    assert data.classes == ("ground", "object") and set(data.objects) == set(data.parts)
    objects = np.concatenate([data.objects[part] for part in data.parts])
    labels = np.concatenate([rows(source)["label"] for source in data.parts.values()])
    assert sorted(each.max() for each in objects) == [0, 2, 2, 2, 2]
    for each, label in zip(objects, labels, strict=True):
        whole = [[0, 0, 0, 2, 2, 2]] * 2 + [[0, 0, 0, 1, 1, 1]] * 2
        assert each.tolist() == (whole if each.any() else [[0] * 6] * 4)
        assert label.tolist() == [[int(n > 0) for n in row] if i in (0, 3) else [0] * 6 for i, row in enumerate(each)]
    Image.fromarray(np.asarray(Image.open(numbered / "masks" / "0.png")).astype(">u2")).save(
        numbered / "masks" / "0.tif"
    )
    (numbered / "masks" / "0.png").unlink()  # as ImageJ writes it
    scaled = load(numbered, masks="objects", size=(8, 12), classes=("ground", "cell"))
    assert scaled.classes == ("ground", "cell") and set(np.unique(scaled.objects["train"])) == {0, 1, 2}
    assert not any("scaled" in line for line in scaled.report)
    small = load(numbered, masks="objects", size=(1, 6)).report  # one row is left, of one object
    assert "warning  masks that lose objects when scaled to data.size: 4" in small
    assert f"         {numbered / 'masks' / '1.png'}: 1 of 2" in small


@pytest.mark.parametrize(
    "pixels, words",
    [
        (np.zeros((4, 5), np.uint16), "2.tif has 4 x 5 pixels, its picture .* 4 x 6"),
        (np.zeros((4, 6, 3), np.uint8), "a mask of mode RGB: .* whose numbers are objects"),
        (np.full((4, 6), -1, np.int32), "2.tif has the number -1"),
    ],
)
def test_a_mask_of_objects_that_does_not_fit_is_named(numbered, pixels, words):
    (numbered / "masks" / "2.png").unlink()
    Image.fromarray(pixels).save(numbered / "masks" / "2.tif")
    with pytest.raises(UserError, match=words):
        load(numbered, masks="objects")


def test_masks_of_another_kind_are_refused(numbered):
    with pytest.raises(UserError, match="data.masks = 'instances': 'classes' or 'objects'"):
        load(numbered, masks="instances")
    with pytest.raises(UserError, match="data.classes: 3 of them; with data.masks = 'objects' two"):
        load(numbered, masks="objects", classes=("a", "b", "c"))

"""Pictures: scikit-learn's, the user's files and arrays."""

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from research.core.config import track_reads
from research.data import thread_pool
from research.data.images import image_files, labelled
from research.util.errors import UserError


def everything(source):
    return source.gather(np.arange(len(source)), 0)


def red(shade, size=(8, 8)):
    return Image.new("RGB", size, (shade, 0, 0))


@pytest.fixture
def folder(tmp_path):
    """Ten pictures of each of two classes, told apart by their red."""
    for kind, base in (("cat", 0), ("dog", 100)):
        (tmp_path / kind).mkdir()
        for i in range(10):
            red(base + i).save(tmp_path / kind / f"{i}.png")
    return tmp_path


def load(path, source="files", **more):
    return labelled.load({"source": source, "path": str(path), **more})


def shades(source):
    return np.rint(everything(source)["image"][:, 0, 0, 0] * 255).astype(int).tolist()


def test_digits_are_scikit_learns():
    data = labelled.load({"source": "digits"})
    assert (data.shape, len(data.classes)) == ((8, 8, 1), 10)
    parts = [everything(part) for part in (data.train, data.valid, data.test)]
    assert sum(len(part["label"]) for part in parts) == 1797
    assert [len(part["label"]) for part in parts[1:]] == [179, 179]
    ours = {(*p.ravel(), y) for part in parts for p, y in zip(part["image"], part["label"], strict=True)}
    theirs = sklearn.datasets.load_digits()
    rows = theirs.data.astype(np.float32) / 16
    assert ours == {(*p, y) for p, y in zip(rows, theirs.target, strict=True)}
    for part in parts:  # stratified
        share = np.bincount(part["label"]) / len(part["label"])
        np.testing.assert_allclose(share, np.bincount(theirs.target) / 1797, atol=0.005)
        assert (part["image"].dtype, part["label"].dtype) == (np.float32, np.int32)
        assert (part["image"].min(), part["image"].max()) == (0, 1)


def test_split_goes_by_names_alone_and_is_nearly_stable():
    names = np.array([f"{i}.png" for i in range(200)])
    labels = np.arange(200) % 2
    before = labelled.split(names, labels, 0.2, 0.1)
    assert [len(before[part]) for part in ("train", "valid", "test")] == [140, 40, 20]
    assert sorted(np.concatenate(list(before.values()))) == list(range(200))
    order = np.random.default_rng(0).permutation(200)
    again = labelled.split(names[order], labels[order], 0.2, 0.1)
    for part in before:
        assert set(names[order][again[part]]) == set(names[before[part]])
    more = labelled.split([*names, *(f"new{i}" for i in range(10))], np.arange(210) % 2, 0.2, 0.1)
    moved = set(more["valid"]) ^ set(before["valid"])
    assert len([i for i in moved if i < 200]) < 10


def test_a_class_keeps_an_example_to_train_on():
    parts = labelled.split(["a", "b", "c"], np.array([0, 1, 1]), 0.6, 0.3)
    assert set(np.array([0, 1, 1])[parts["train"]]) == {0, 1}


def test_folder_of_classes(folder):
    data = load(folder)
    assert (data.classes, data.shape) == (("cat", "dog"), (8, 8, 3))
    assert [len(part) for part in (data.train, data.valid, data.test)] == [16, 2, 2]
    parts = (data.train, data.valid, data.test)
    assert sorted(sum(map(shades, parts), [])) == [*range(10), *range(100, 110)]
    for part in parts:
        np.testing.assert_array_equal(everything(part)["label"], np.array(shades(part)) >= 100)
    np.testing.assert_array_equal(data.train.gather(np.array([9, 2]))["image"], everything(data.train)["image"][[9, 2]])


def test_decoding_when_wanted_gives_the_same(folder, monkeypatch):
    at_once = everything(load(folder, size=(4, 5), channels=1).train)
    monkeypatch.setattr(labelled, "IN_MEMORY", 0)
    data = load(folder, size=(4, 5), channels=1)
    assert isinstance(data.train.source, image_files.Files)
    for key, value in everything(data.train).items():
        np.testing.assert_array_equal(value, at_once[key])
    victim = data.train.source.paths[data.train.rows[0]]
    victim.write_bytes(victim.read_bytes()[:45])
    with pytest.raises(UserError, match=f"picture {victim} cannot be read"):
        data.train.gather(np.array([0]))


def test_report_names_what_was_skipped(folder):
    (folder / "cat" / "broken.png").write_bytes((folder / "cat" / "1.png").read_bytes()[:50])
    (folder / "cat" / "text.jpg").write_text("no picture")
    (folder / "stray.png").write_bytes((folder / "cat" / "1.png").read_bytes())
    (folder / "emu").mkdir()
    red(7).save(folder / "emu" / "only.jpg")
    (folder / ".cache").mkdir()
    red(7).save(folder / ".cache" / "x.png")
    data = load(folder)
    report = "\n".join(data.report)
    for fact in (
        "cat/broken.png: ",
        "cat/text.jpg: ",
        "stray.png: not in a class",
        "cat 10, dog 10, emu 1",
    ):
        assert fact in report
    assert "never validated: 1\n         emu" in report
    assert data.classes == ("cat", "dog", "emu")
    assert len(data.report) < 24


def test_folders_that_tell_the_split(tmp_path):
    for part, shade in (("train", 1), ("val", 2), ("test", 3)):
        for kind in ("a", "b"):
            (tmp_path / part / kind).mkdir(parents=True)
            red(shade).save(tmp_path / part / kind / "x.png")
    data = load(tmp_path)
    assert data.classes == ("a", "b")
    assert [shades(part) for part in (data.train, data.valid, data.test)] == [
        [1, 1],
        [2, 2],
        [3, 3],
    ]


def test_csv(folder):
    rows = ["path,label,split"]
    rows += [f"cat/{i}.png,chat,{'test' if i > 7 else 'train'}" for i in range(10)]
    rows += [
        "dog/1.png,chien,train",
        "dog/absent.png,chien,train",
        "dog/2.png,,",
        "dog/3.png,chien,x",
    ]
    (folder / "list.csv").write_text("\n".join(rows), encoding="utf-8-sig")
    data = load(folder / "list.csv", valid_fraction=0.25)
    assert data.classes == ("chat", "chien")
    assert shades(data.test) == [8, 9]
    assert (len(data.valid), len(data.train)) == (2, 7)
    report = "\n".join(data.report)
    for fact in ("dog/absent.png: missing", "line 14: no path or no label", "line 15: split 'x'"):
        assert fact in report


def test_decode_is_upright_covering_and_centred(tmp_path):
    """A 40 x 20 picture, left half black, right half white, stored turned by a quarter."""
    image = Image.fromarray(np.repeat([[0] * 20 + [255] * 20], 20, 0).astype(np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    got = image_files.decode(tmp_path / "turned.png", (10, 10, 1))[..., 0]
    assert (got[:4] == 0).all() and (got[6:] == 255).all()  # left became top
    image.save(tmp_path / "plain.png")
    got = image_files.decode(tmp_path / "plain.png", (20, 20, 1))[..., 0]
    np.testing.assert_array_equal(got, np.asarray(image)[:, 10:30])
    deep = (np.arange(16).reshape(4, 4) * 4369).astype(np.uint16)  # 65,535 = 15 * 4,369
    Image.fromarray(deep).save(tmp_path / "deep.png")
    got = image_files.decode(tmp_path / "deep.png", (4, 4, 1))[..., 0]
    np.testing.assert_array_equal(got, np.arange(16).reshape(4, 4) * 17)
    np.testing.assert_array_equal(labelled.read(tmp_path / "deep.png", (4, 4, 1))[..., 0], got / np.float32(255))


# Modes


def grey(path, shape=(1, 4, 1)):
    return image_files.decode(path, shape)[..., 0].tolist()


def test_what_is_transparent_shows_white(tmp_path):
    """Black in four strengths, in each of the ways to say so; 255 - alpha is what white behind it leaves."""
    alpha = np.array([[0, 85, 170, 255]], np.uint8)
    black = np.zeros((1, 4), np.uint8)
    Image.fromarray(np.stack([black, black, black, alpha], -1)).save(tmp_path / "rgba.png")
    Image.fromarray(np.stack([black, alpha], -1)).save(tmp_path / "la.png")
    palette = Image.fromarray(black + np.arange(4, dtype=np.uint8))  # four entries, all black
    palette.putpalette([0] * 12)
    palette.save(tmp_path / "palette.png", transparency=bytes(alpha[0].tolist()))
    for name in ("rgba.png", "la.png", "palette.png"):
        assert grey(tmp_path / name) == [[255, 170, 85, 0]], name
        assert image_files.decode(tmp_path / name, (1, 4, 3))[0].tolist() == [[v] * 3 for v in (255, 170, 85, 0)]
    picture = Image.open(tmp_path / "rgba.png")
    np.testing.assert_allclose(labelled.to_image(picture, (1, 4, 1)).ravel(), np.array([255, 170, 85, 0]) / 255)


def test_a_colour_that_stands_for_transparent_shows_white(tmp_path):
    Image.fromarray(np.array([[0, 1, 2, 255]], np.uint8)).save(tmp_path / "8.png", transparency=0)
    assert grey(tmp_path / "8.png") == [[255, 1, 2, 255]]
    rgb = np.array([[[1, 2, 3], [9, 9, 9], [0, 0, 0], [5, 5, 5]]], np.uint8)
    Image.fromarray(rgb).save(tmp_path / "rgb.png", transparency=(1, 2, 3))
    assert image_files.decode(tmp_path / "rgb.png", (1, 4, 3))[0].tolist() == [[255] * 3, [9] * 3, [0] * 3, [5] * 3]
    gif = Image.fromarray(np.array([[0, 1, 1, 0]], np.uint8))
    gif.putpalette([0, 0, 0, 100, 100, 100])
    gif.save(tmp_path / "a.gif", transparency=0)
    assert grey(tmp_path / "a.gif") == [[255, 100, 100, 255]]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.int32([[0, 85, 170, 255]]), [0, 85, 170, 255]),  # 8 bits in 32
        (np.int32([[0, 65_535, 21_845, 0]]), [0, 255, 85, 0]),  # 16 bits in 32
        (np.int32([[-100, 0, 100, 300]]), [0, 64, 128, 255]),  # neither: its own range
        (np.int32([[0, 1 << 30, 1 << 29, 0]]), [0, 255, 128, 0]),
        (np.float32([[0, 0.2, 0.5, 1]]), [0, 51, 128, 255]),
        (np.float32([[0.25, 0.25, 0.5, 0.25]]), [64, 64, 128, 64]),  # dark, and stays so
        (np.float32([[0, 51, 128, 255]]), [0, 51, 128, 255]),
        (np.float32([[-1, 0, 0, 1]]), [0, 128, 128, 255]),
        (np.float32([[7e5, 7e5, 7e5, 7e5]]), [0, 0, 0, 0]),
    ],
)
def test_larger_numbers_are_scaled(tmp_path, values, wanted):
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert grey(tmp_path / "a.tiff") == [wanted]
    assert image_files.decode(tmp_path / "a.tiff", (1, 4, 3))[0].tolist() == [[v] * 3 for v in wanted]
    image_files.check(tmp_path / "a.tiff", (1, 4, 1))


def test_sixteen_bits_of_a_pgm(tmp_path):
    """Big-endian, and at most 65,535: a dark one stays dark."""
    (tmp_path / "a.pgm").write_bytes(b"P5 4 1 65535\n" + np.array([0, 257, 514, 25_700], ">u2").tobytes())
    assert grey(tmp_path / "a.pgm") == [[0, 1, 2, 100]]


def test_a_number_that_is_none_is_reported(folder):
    Image.fromarray(np.float32([[0, np.nan]])).save(folder / "cat" / "odd.tiff")
    assert "cat/odd.tiff: it has values that are not finite numbers" in "\n".join(load(folder).report)


# Folders


def damaged(folder):
    """Files that are cut short, one that is no picture, and a link to nothing."""
    for name in ("cut.jpg", "cut.png", "cut.gif"):
        noise = np.random.default_rng(0).integers(256, size=(64, 64, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / "cat" / name)
        raw = (folder / "cat" / name).read_bytes()
        (folder / "cat" / name).write_bytes(raw[: len(raw) * 2 // 3])
    (folder / "cat" / "text.jpg").write_text("no picture")
    (folder / "cat" / "gone.png").symlink_to("nowhere")
    return {"cut.jpg", "cut.png", "cut.gif", "text.jpg", "gone.png"}


@pytest.mark.parametrize("memory", [labelled.IN_MEMORY, 0])
def test_damaged_files_are_skipped_and_named_in_small_and_large_folders(folder, monkeypatch, memory):
    names = damaged(folder)
    monkeypatch.setattr(labelled, "IN_MEMORY", memory)
    data = load(folder)
    assert sum(len(part) for part in (data.train, data.valid, data.test)) == 20
    report = data.report[data.report.index("skipped  5") :]
    assert {line.split("cat/")[1].split(":")[0] for line in report[1:6]} == names
    assert len(everything(data.train)["image"]) == 16


def test_linked_classes_other_suffixes_and_what_is_not_read(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for name in ("a.PNG", "b.JPG", "c.jfif"):
        red(7).save(other / name, format="PNG" if name == "a.PNG" else "JPEG")
    (folder / "linked").symlink_to(other)
    (folder / "phone").mkdir()
    (folder / "phone" / "a.heic").write_bytes(b"x")
    (folder / "phone" / "b.HEIC").write_bytes(b"x")
    (folder / "cat" / "notes.txt").write_text("x")
    (folder / "cat" / "loop").symlink_to(folder)
    data = load(folder)
    assert data.classes == ("cat", "dog", "linked")
    report = "\n".join(data.report)
    assert "cat 10, dog 10, linked 3" in report
    assert "cat/loop: a link back to a folder that it is in" in report
    assert "ignored  3 files that are not .png " in report and "1 .heic, 1 .HEIC" in report and "1 .txt" in report
    assert "classes of which no file is read: 1\n         phone: 1 .heic, 1 .HEIC" in report


def test_frames_after_the_first_are_counted(folder):
    red(1).save(folder / "cat" / "film.gif", save_all=True, append_images=[red(200)])
    assert "frames   1 pictures have several frames or pages; the first is used" in load(folder).report


def test_pictures_of_other_sizes_are_counted(folder):
    """One is wider, one is turned to the size by its EXIF data, one away from it; the others have the first one's size."""
    Y, X, _ = load(folder).shape
    assert not any("other sizes" in line for line in load(folder).report)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (X + 4, Y)).save(folder / "dog" / "wide.png")
    Image.new("RGB", (Y + 1, X)).save(folder / "dog" / "tall.jpg", exif=turned)
    assert "fitted   2 pictures of other sizes: scaled to cover this one, cut at the centre" in load(folder).report
    Image.new("RGB", (Y, X)).save(folder / "dog" / "tall.jpg", exif=turned)
    assert "fitted   1 pictures of other sizes: scaled to cover this one, cut at the centre" in load(folder).report


def test_rows_of_a_csv_are_whole_or_named(folder):
    (folder / "cat" / "a\u2028b.png").write_bytes((folder / "cat" / "1.png").read_bytes())
    lines = [
        "path,label",
        '"cat/a\u2028b.png", cat ',
        "cat/2.png,cat",
        "dog/1.png,dog,train",
        "dog/2.png",
        "dog/3.png,dog",
    ]
    (folder / "list.CSV").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    data = load(folder / "list.CSV", valid_fraction=0, test_fraction=0)
    assert data.classes == ("cat", "dog") and len(data.train) == 3
    report = "\n".join(data.report)
    assert "line 4: 3 cells under 2 names" in report and "line 5: 1 cell under 2 names" in report
    (folder / "list.tsv").write_text('path\tlabel\ncat/1.png\ta, "b"\ndog/1.png\tdog\n')
    assert load(folder / "list.tsv", valid_fraction=0, test_fraction=0).classes == ('a, "b"', "dog")


@pytest.mark.parametrize("form", ["npz", "folder"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_arrays(tmp_path, form, dtype):
    rng = np.random.default_rng(0)
    pixels = rng.integers(256, size=(40, 5, 6)).astype(np.uint8)
    stored = pixels if dtype == np.uint8 else pixels / 255
    labels = np.arange(40) % 4
    path = tmp_path
    if form == "npz":
        path = tmp_path / "data.npz"
        np.savez(path, images=stored, labels=labels)
    else:
        np.save(tmp_path / "images.npy", stored)
        np.save(tmp_path / "labels.npy", labels)
    data = load(path, "arrays")
    assert (data.shape, data.classes) == ((5, 6, 1), ("0", "1", "2", "3"))
    assert [len(part) for part in (data.train, data.valid, data.test)] == [32, 4, 4]
    for part in (data.train, data.valid, data.test):
        got = everything(part)
        np.testing.assert_allclose(got["image"][..., 0], pixels[part.rows] / 255, rtol=1e-6)
        np.testing.assert_array_equal(got["label"], part.rows % 4)
        assert got["image"].dtype == np.float32


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint8, 16), (np.float64, 1), (np.float32, 1)])
def test_pixels_are_divided_in_single_precision(monkeypatch, dtype, white):
    rng = np.random.default_rng(0)
    pixels = np.arange(white + 1).astype(dtype) if white > 1 else rng.random(1000).astype(dtype)
    source = labelled.ImageSource(labelled.Arrays({"image": pixels}), np.arange(len(pixels)), lambda: pixels, white)
    want = [float(np.float32(x) / np.float32(white)) for x in pixels]
    got = source.scaled(pixels)
    assert got.dtype == np.float32
    assert got.tolist() == want
    monkeypatch.setattr(labelled, "PART", 3 * pixels.itemsize)
    monkeypatch.setattr(thread_pool, "WORTHWHILE", 0.0)
    with thread_pool.threads(4):
        for _ in range(3):
            assert source.scaled(pixels).tolist() == want
    assert source.scaled(pixels[:0]).shape == (0,)


GOOD = {"images": np.zeros((4, 2, 2), np.uint8), "labels": np.arange(4)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"images": np.full((4, 2, 2), 2.0)}, "images in 2.0..2.0; scale them to 0..1"),
        ({"images": np.full((4, 2, 2), np.nan)}, "scale them to 0..1"),
        ({"images": np.zeros((4, 2, 2), np.int64)}, "images of int64"),
        ({"images": np.zeros((4, 3, 32, 32), np.uint8)}, "channels first"),
        ({"images": np.zeros((3, 2, 2), np.uint8)}, "images [3, 2, 2, 1], labels [4]"),
        ({"labels": np.array([0, 1, 2, -1])}, "labels must be whole numbers from 0"),
        ({"labels": np.array([0.0, 1, 2, 3])}, "labels must be whole numbers from 0"),
        (
            {"labels": np.array([0, 1, 2, 2**40])},
            "a label 1,099,511,627,776; classes are numbered from 0, at most 1,048,576",
        ),
        ({"labels": np.array([0, 1, 2, 2**64 - 1], np.uint64)}, "a label 18,446,744,073,709,551,615"),
        ({"labels": np.array([{}, 1, 2, 3], object)}, "cannot be read"),  # would need pickle
        ({"labels": None}, "holds images; wanted images and labels"),
    ],
)
def test_arrays_that_are_no_pictures(tmp_path, change, told):
    arrays = {k: v for k, v in (GOOD | change).items() if v is not None}
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(UserError) as caught:
        load(tmp_path / "data.npz", "arrays")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        ({"source": "digit"}, "did you mean 'digits'"),
        ({"source": "files"}, "data.path is not set"),
        ({"source": "files", "path": "absent"}, "does not exist"),
        ({"source": "files", "path": "empty"}, "no picture found (no file of a class)"),
        ({"source": "files", "path": "junk"}, "no picture found (a/x.png: cannot identify"),
        ({"source": "files", "path": "bad.csv"}, "has no column 'path' but a, b; wanted path, label"),
        ({"source": "files", "path": "junk/a/x.png"}, "want a folder a class, or a .csv or .tsv of path and label"),
        ({"source": "arrays", "path": "empty"}, "images.npy does not exist"),
        ({"source": "arrays", "path": "bad.csv"}, "cannot be read"),
        ({"source": "tfds:none", "data_dir": "empty"}, "no prepared TFDS data set 'none'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, cfg, told):
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk" / "a").mkdir(parents=True)
    (tmp_path / "junk" / "a" / "x.png").write_text("junk")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        labelled.load(track_reads({"path": None, "size": None, "valid_fraction": None} | cfg))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_validation_where_none_is_wanted(folder):
    data = load(folder, valid_fraction=0, test_fraction=0)
    assert (data.valid, data.test, len(data.train)) == (None, None, 20)
    with pytest.raises(UserError, match="their sum below 1"):
        load(folder, valid_fraction=0.5, test_fraction=0.5)


def test_most_frequent_class_needs_no_picture(folder, monkeypatch):
    labels = np.array([2, 0, 2, 2, 1, 1])
    source = labelled.ImageSource(labelled.Arrays({"image": np.zeros((6, 1))}), np.arange(4), lambda: labels)
    assert labelled.most_frequent(source) == 0.75
    monkeypatch.setattr(labelled, "IN_MEMORY", 0)
    train = load(folder).train
    labels = everything(train)["label"]
    for path in train.source.paths:
        path.unlink()
    assert labelled.most_frequent(train) == 0.5
    np.testing.assert_array_equal(train.labels(), labels)
    assert train.labels().dtype == np.int32


def test_chosen_classes_are_numbered_in_their_order():
    """By scikit-learn's own labels: nines become 0, threes 1, and each part keeps its share of them."""
    whole = labelled.load({"source": "digits"})
    data = labelled.load({"source": "digits", "classes": (9, "3")})
    assert data.classes == ("9", "3")
    for name in ("train", "valid", "test"):
        ours, all_of_them = everything(getattr(data, name)), everything(getattr(whole, name))
        kept = np.isin(all_of_them["label"], (3, 9))
        np.testing.assert_array_equal(ours["image"], all_of_them["image"][kept])
        np.testing.assert_array_equal(ours["label"], np.where(all_of_them["label"][kept] == 9, 0, 1))
        np.testing.assert_array_equal(getattr(data, name).labels(), ours["label"])
    theirs = sklearn.datasets.load_digits().target
    assert sum(map(len, (data.train, data.valid, data.test))) == np.isin(theirs, (3, 9)).sum()
    counts = ", ".join(f"{len(getattr(data, name))} {name}" for name in ("train", "valid", "test"))
    assert data.report[-1] == f"chosen   9, 3 of 10 classes: {counts}"


def test_a_class_goes_by_its_name_or_else_its_place(folder):
    assert load(folder, classes=(1, "cat")).classes == ("dog", "cat")
    (folder / "dog").rename(folder / "0")  # now first in order, and of a name that is a number
    assert load(folder, classes=(0, 1)).classes == ("0", "cat")


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("cat", "dgo"), "data.classes: there is no class 'dgo'; did you mean 'dog'?"),
        ((0, 2), "data.classes: there is no class 2"),
        ((0, -1), "data.classes: there is no class -1"),
        (("dog", 1), r"data.classes = \('dog', 1\) has 'dog' twice"),
        (("dog",), r"data.classes = \('dog',\): two or more names or numbers"),
        ("dog", "data.classes = 'dog': two or more"),
    ],
)
def test_classes_that_cannot_be_chosen(folder, classes, words):
    with pytest.raises(UserError, match=words):
        load(folder, classes=classes)

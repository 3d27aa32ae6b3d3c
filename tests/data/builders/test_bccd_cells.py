"""Cells of a made smear, by hand; of the true ones the numbers of their annotations."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from research.data import download, tfds_records
from research.data.builders import bccd_cells
from research.data.images import labelled

BOXES = (  # name, left, upper, right, lower: the last pixel is inside, and the first is 1
    ("RBC", 1, 1, 10, 20),
    ("WBC", 11, 1, 30, 20),
    ("RBC", 5, 5, 5, 9),  # without area, and counted: the file's first two red cells are this and the first
    ("RBC", 3, 3, 9, 9),
    ("Platelets", 31, 21, 40, 30),
)


def annotation():
    sides = ("xmin", "ymin", "xmax", "ymax")
    cells = ""
    for name, *box in BOXES:
        places = "".join(f"<{side}>{value}</{side}>" for side, value in zip(sides, box, strict=True))
        cells += f"<object><name>{name}</name><bndbox>{places}</bndbox></object>"
    return f"<annotation>{cells}</annotation>".encode()


def test_the_chosen_cells_of_an_annotation():
    assert list(bccd_cells.chosen(annotation())) == [
        ("RBC", (0, 0, 10, 20)),
        ("WBC", (10, 0, 30, 20)),
        ("Platelets", (30, 20, 40, 30)),
    ]


def test_cells_are_cut_out_and_split_by_smear(tmp_path, monkeypatch):
    """Three smears, each of one grey; a cell of 10 x 10 pixels keeps them."""
    (tmp_path / "mirror" / "bccd").mkdir(parents=True)
    archive = tmp_path / "mirror" / "bccd" / "BCCD.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for i, name in enumerate(("train", "val", "test")):
            out = io.BytesIO()
            Image.new("RGB", (40, 30), (80 * i,) * 3).save(out, "JPEG", quality=100)
            files = {"JPEGImages/{}.jpg": out.getvalue(), "Annotations/{}.xml": annotation()}
            files = {key.format(f"smear{i}"): value for key, value in files.items()}
            for path, content in {**files, f"ImageSets/Main/{name}.txt": f"smear{i}\n".encode()}.items():
                member = tarfile.TarInfo(f"BCCD/{path}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    content = archive.read_bytes()
    file = download.File("BCCD.tar.gz", "", hashlib.sha256(content).hexdigest(), len(content))
    monkeypatch.setattr(bccd_cells.BccdCells, "FILES", (file,))
    monkeypatch.setenv("ALMANAC_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path / "data"))
    data = labelled.load({"source": "tfds:bccd_cells", "size": 10})
    assert data.classes == ("RBC", "WBC", "Platelets") and data.shape == (10, 10, 3)
    for i, part in enumerate((data.train, data.valid, data.test)):
        batch = part.gather(np.arange(3), 0)
        assert batch["label"].tolist() == [0, 1, 2]
        np.testing.assert_allclose(255 * batch["image"], 80 * i, atol=1)
    assert tfds_records.load("bccd_cells", "test")[1]["image"].shape == (20, 20, 3)


@pytest.mark.data
def test_the_numbers_of_true_cells():
    """372 white cells and 361 platelets in all, and at most two red ones of each of 364 smears."""
    data = labelled.load({"source": "tfds:bccd_cells", "size": 8})
    counts = np.sum([np.bincount(part.labels()) for part in (data.train, data.valid, data.test)], 0)
    assert counts[1:].tolist() == [372, 361] and 690 < counts[0] <= 2 * 364
    assert [len(part) for part in (data.train, data.valid, data.test)] == [817, 336, 278]

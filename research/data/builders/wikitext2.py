"""WikiText-2, word level, v1 (Merity et al. 2017, 1609.07843): good and featured articles of Wikipedia."""

import itertools
import re

import tensorflow_datasets as tfds

from research.data import download

# The upstream archive is no longer available; these are byte-identical copies of its three files.
_URL = "https://raw.githubusercontent.com/sobamchan/wikitext-2/6dd76b9386aa79de2cd25039b0c9af0eae2fde73/"
_FILES = (
    ("wiki.train.tokens", "train.txt", 10797148,
     "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f"),
    ("wiki.valid.tokens", "valid.txt", 1121681,
     "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"),
    ("wiki.test.tokens", "test.txt", 1256449,
     "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
)  # fmt: skip
# A title is between two empty lines, each a single space; some lines of tables look like titles.
_TITLE = re.compile(r"^ \n = [^=\n]+ = \n \n", re.MULTILINE)


class Wikitext2(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """`text`, one example per article, in order: concatenated, they are byte-identical to the split's file.

    An article begins with an empty line and its ` = Title = `. A line is a heading, a paragraph or empty;
    words are separated by spaces, rare ones are `<unk>`.
    """

    VERSION = tfds.core.Version("1.0.0")
    FILES = tuple(download.File(name, _URL + path, sha256, size) for name, path, size, sha256 in _FILES)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        paths = download.fetch(self.name, self.FILES)
        names = {"train": "wiki.train.tokens", "validation": "wiki.valid.tokens", "test": "wiki.test.tokens"}
        return {split: self._generate_examples(paths[name]) for split, name in names.items()}

    def _generate_examples(self, path):
        text = download.read(path).decode("utf-8")
        for number, article in enumerate(articles(text)):
            yield number, {"text": article}


def articles(text: str) -> list[str]:
    """The articles of a split; text before the first title belongs to the first article."""
    starts = [m.start() for m in _TITLE.finditer(text)]
    return [text[a:b] for a, b in itertools.pairwise([0, *starts[1:], len(text)])]

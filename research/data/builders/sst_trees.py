"""The Stanford Sentiment Treebank (Socher et al. 2013): 11,855 parsed sentences of film reviews, every phrase labelled."""

import re

import tensorflow_datasets as tfds

from research.data import download
from research.util.errors import UserError

# The files of upstream's trainDevTestTrees_PTB.zip, one by one as AllenNLP keeps them.
_HOME = "https://s3-us-west-2.amazonaws.com/allennlp/datasets/sst/"
_FILES = (
    ("train.txt", 2160058, "e2f3f41b0b1e6d4dddc0effe3bfc2d27ed8928079aa9a03d652311614fc5feb7"),
    ("dev.txt", 280825, "0e9336aed6e4730e19f58d00a77b3f0297efdb755f7b5e598c98a05e3f97ea40"),
    ("test.txt", 559614, "6e54806dee95cf80cd918e7dfb3f6770f6df24bf826f289a4d1f709e1c8f6761"),
)
CLASSES = ("very negative", "negative", "neutral", "positive", "very positive")
_ESCAPED = {"-LRB-": "(", "-RRB-": ")"}
_PARTS = re.compile(r"[()]|[^\s()]+")


class SstTrees(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """`tree`, a sentence in Penn Treebank brackets with a label 0-4 before each phrase, and the sentence's `label`."""

    VERSION = tfds.core.Version("1.0.0")
    FILES = tuple(download.File(name, _HOME + name, sha256, size) for name, size, sha256 in _FILES)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"tree": tfds.features.Text(), "label": tfds.features.ClassLabel(names=CLASSES)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        paths = download.fetch(self.name, self.FILES)
        names = {"train": "train.txt", "validation": "dev.txt", "test": "test.txt"}
        return {split: self._generate_examples(paths[name]) for split, name in names.items()}

    def _generate_examples(self, path):
        for number, line in enumerate(download.read(path).decode("utf-8").splitlines()):
            yield number, {"tree": line, "label": phrases(line)[-1][1]}


def phrases(tree: str) -> list[tuple[str, int]]:
    """Every phrase of a bracketed sentence and its label 0-4, inner phrases first, the sentence last.

    Words are joined by spaces; the treebank's escapes of brackets and slashes are undone. Raises UserError if it is no tree.

    >>> phrases("(3 (2 not) (3 bad))")
    [('not', 2), ('bad', 3), ('not bad', 3)]
    """
    closed: list[tuple[str, int]] = []
    open_: list[list[str]] = []  # of each unclosed phrase: its label, its words
    for part in _PARTS.findall(tree):
        if part == "(":
            open_.append([])
        elif part == ")" and open_ and len(open_[-1]) > 1 and open_[-1][0].isdigit():
            label, *words = open_.pop()
            closed.append((" ".join(words), int(label)))
            if open_:
                open_[-1] += words
        elif part != ")" and open_:
            open_[-1].append(_ESCAPED.get(part, part.replace("\\/", "/").replace("\\*", "*")))
        else:
            open_ = [[]]
            break
    if open_ or not closed:
        raise UserError(f"no bracketed sentence with labels: {tree[:60]!r}")
    return closed

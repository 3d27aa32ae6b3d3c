"""SQuAD v1.1 (Rajpurkar et al. 2016, 1606.05250): questions on paragraphs of Wikipedia, answered by spans of them."""

import json

import numpy as np
import tensorflow_datasets as tfds

from research.data import download

_URL = "https://rajpurkar.github.io/SQuAD-explorer/dataset/"
TRAIN = download.File(
    "train-v1.1.json",
    f"{_URL}train-v1.1.json",
    "3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955",
    30288272,
)
DEV = download.File(
    "dev-v1.1.json",
    f"{_URL}dev-v1.1.json",
    "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9",
    4854279,
)
# Made from the official pages explore/1.1/train/*.html: all contexts, questions and answers, but with invented ids, articles
# in alphabetical order, and each answer at its first occurrence; 10.8 % of the answers occur more than once.
REBUILT = download.File(
    "train-v1.1.rebuilt.json",
    "https://github.com/rajpurkar/SQuAD-explorer",
    "70d9a4054c2f089a89eadf4411b13655d0a167b69af277740c8fe3e414cb232c",
    32836633,
)


class Squad(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """One example per question, in the order of the files, with the fields of TFDS's own builder.

    Version 1.1.0 has the published training file. If the mirror or the cache has `REBUILT` instead, that is read as
    version 1.1.1, and `rebuilt` is True. `validation` is the published development file.
    """

    VERSION = tfds.core.Version("1.1.0")
    SUPPORTED_VERSIONS = [tfds.core.Version("1.1.1")]  # TFDS wants a list

    def __init__(self, **options):
        self.rebuilt = download.has("squad", REBUILT) and not download.has("squad", TRAIN)
        self.FILES = (REBUILT if self.rebuilt else TRAIN, DEV)
        super().__init__(version="1.1.1" if self.rebuilt else "1.1.0", **options)

    def _info(self) -> tfds.core.DatasetInfo:
        text, number = tfds.features.Text(), tfds.features.Scalar(np.int32)
        answers = tfds.features.Sequence({"text": text, "answer_start": number})
        names = ("id", "title", "context", "question")
        features = tfds.features.FeaturesDict({**dict.fromkeys(names, text), "answers": answers})
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        paths = download.fetch(self.name, self.FILES)
        parts = dict(zip(("train", "validation"), (download.read(paths[f.name]) for f in self.FILES), strict=True))
        return {split: self._generate_examples(json.loads(part)) for split, part in parts.items()}

    def _generate_examples(self, file: dict):
        number = 0
        for article in file["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    answers = [{k: answer[k] for k in ("text", "answer_start")} for answer in question["answers"]]
                    about = {"title": article["title"], "context": paragraph["context"]}
                    yield number, {**about, **{k: question[k] for k in ("id", "question")}, "answers": answers}
                    number += 1

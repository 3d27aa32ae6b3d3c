"""IMDb's Large Movie Review Dataset (Maas et al. 2011): 25,000 / 25,000 reviews, half of each positive."""

import tarfile

import tensorflow_datasets as tfds

from research.data import download

UPSTREAM = download.File(
    "aclImdb_v1.tar.gz",
    "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
    84125825,
)
# The same members without the 50,000 unlabelled reviews, a third of the size: used if the user has it.
LABELLED = download.File(
    "aclImdb_v1_labelled.tar.gz",
    UPSTREAM.url,
    "b514485788cfb26915af1fbe2457380c80fd20dc341f2dac0e9396ef48f8dad6",
    27675292,
)
CLASSES = ("neg", "pos")


class Imdb(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """`text`, unprocessed and with `<br />`, and `label`; sorted by class and number of the review."""

    VERSION = tfds.core.Version("1.0.0")

    @property
    def FILES(self) -> tuple[download.File, ...]:  # noqa: N802  (a constant of the other builders)
        return (LABELLED if download.has(self.name, LABELLED) else UPSTREAM,)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=CLASSES)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        (path,) = download.fetch(self.name, self.FILES).values()
        return {split: self._generate_examples(path, split) for split in ("train", "test")}

    def _generate_examples(self, path, split: str):
        reviews = []
        with tarfile.open(path) as archive:
            for member in archive:
                words = member.name.split("/")
                if len(words) == 4 and words[1] == split and words[2] in CLASSES:
                    text = archive.extractfile(member).read().decode("utf-8")
                    reviews.append((words[2], int(words[3].partition("_")[0]), text))
        for number, (label, _, text) in enumerate(sorted(reviews)):
            yield number, {"text": text, "label": label}

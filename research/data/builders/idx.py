"""MNIST's idx files as a TFDS builder that needs no TensorFlow."""

import gzip
import struct
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from research.data import download
from research.util.errors import UserError


def read_idx(path: Path) -> np.ndarray:
    """A gzipped idx file (0, 0, type 8, rank, dimensions u32, data) -> u8[dimensions]. Raises UserError if it is not one."""
    raw = gzip.decompress(path.read_bytes())
    zero, kind, rank = struct.unpack(">HBB", raw[:4])
    shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
    if (zero, kind) != (0, 8) or len(raw) != 4 + 4 * rank + np.prod(shape):
        raise UserError(f"{path} is not an idx file of bytes")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


class IdxBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """`image` u8[28, 28, 1] and `label`, with the name, version and splits of TFDS's own builder.

    A folder prepared by one can be read by the other. Not registered with TFDS, which has builders
    of these names.
    """

    FILES: tuple[download.File, ...]
    CLASSES: tuple[str, ...]

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(28, 28, 1)),
            "label": tfds.features.ClassLabel(names=self.CLASSES),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,  # in the order of the files, so that "the last 5,000" is well defined
        )

    def _split_generators(self, dl_manager):
        paths = download.fetch(self.name, self.FILES)
        return {
            split: self._generate_examples(
                paths[f"{prefix}-images-idx3-ubyte.gz"], paths[f"{prefix}-labels-idx1-ubyte.gz"]
            )
            for split, prefix in (("train", "train"), ("test", "t10k"))
        }

    def _generate_examples(self, images: Path, labels: Path):
        pairs = zip(read_idx(images), read_idx(labels), strict=True)
        for i, (image, label) in enumerate(pairs):
            # A PIL image, not an array: TFDS encodes arrays with TensorFlow.
            yield i, {"image": Image.fromarray(image), "label": int(label)}

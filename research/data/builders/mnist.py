"""MNIST (LeCun, Cortes and Burges 1998): 60,000 / 10,000 handwritten digits, 28 x 28."""

import tensorflow_datasets as tfds

from research.data.builders.idx import IdxBuilder
from research.data.download import File

_URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_FILES = (
    ("train-images-idx3-ubyte.gz", 9912422,
     "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    ("train-labels-idx1-ubyte.gz", 28881,
     "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ("t10k-images-idx3-ubyte.gz", 1648877,
     "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    ("t10k-labels-idx1-ubyte.gz", 4542,
     "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
)  # fmt: skip


class Mnist(IdxBuilder, skip_registration=True):
    VERSION = tfds.core.Version("3.0.1")
    FILES = tuple(File(name, _URL + name, sha256, size) for name, size, sha256 in _FILES)
    CLASSES = tuple("0123456789")

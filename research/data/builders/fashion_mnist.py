"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, 1708.07747): 60,000 / 10,000 garments, 28 x 28."""

import tensorflow_datasets as tfds

from research.data.builders.idx import IdxBuilder
from research.data.download import File

_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_FILES = (
    ("train-images-idx3-ubyte.gz", 26421880,
     "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    ("train-labels-idx1-ubyte.gz", 29515,
     "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    ("t10k-images-idx3-ubyte.gz", 4422102,
     "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    ("t10k-labels-idx1-ubyte.gz", 5148,
     "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
)  # fmt: skip


class FashionMnist(IdxBuilder, skip_registration=True):
    VERSION = tfds.core.Version("3.0.1")
    FILES = tuple(File(name, _URL + name, sha256, size) for name, size, sha256 in _FILES)
    CLASSES = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip

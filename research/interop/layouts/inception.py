"""GoogLeNet of torchvision, and Inception v3 of torchvision and timm."""

from typing import Any

import numpy as np

from research.interop.layouts.layout import Layout, Place, Table, layer, layers
from research.models.vision import googlenet, inception_v3

BRANCHES = {
    "branch1": "one", "branch2.0": "three_reduce", "branch2.1": "three", "branch3.0": "five_reduce", "branch3.1": "five",
    "branch4.1": "pool",
}  # fmt: skip
STEM = {
    "Conv2d_1a_3x3": "conv1", "Conv2d_2a_3x3": "conv2", "Conv2d_2b_3x3": "conv3", "Conv2d_3b_1x1": "conv4",
    "Conv2d_4a_3x3": "conv5",
}  # fmt: skip


def _convolutions(names: dict[str, str]) -> Table:
    """{theirs: our `Convolution`} -> the tensors of the convolutions and their norms."""
    parts = {"conv": "conv", "bn": "norm"}
    return layers({f"{theirs}.{a}": f"{ours}/{b}" for theirs, ours in names.items() for a, b in parts.items()})


def _grid(_: Any, x: np.ndarray) -> np.ndarray:
    """A linear layer that reads 4 x 4 pixels: torch orders its inputs (channel, row, column), we (row, column, channel)."""
    return x.reshape(len(x), -1, 4, 4).transpose(2, 3, 1, 0).reshape(-1, len(x))


def _googlenet(model: Any) -> Table:
    table = layer("fc", "head") | _convolutions({f"conv{i}": f"conv{i}" for i in (1, 2, 3)})
    for name in googlenet.MODULES:
        table |= _convolutions({f"inception{name}.{a}": f"inception_{name}/{b}" for a, b in BRANCHES.items()})
    for i in (1, 2):
        aux, ours = f"aux{i}", f"auxiliary{i}"
        table |= _convolutions({f"{aux}.conv": f"{ours}/conv"}) | layer(f"{aux}.fc2", f"{ours}/head")
        table |= layer(f"{aux}.fc1", f"{ours}/hidden") | {
            f"{aux}.fc1.weight": Place(f"params/{ours}/hidden/kernel", _grid)
        }
    return table


def _inception_v3(model: Any) -> Table:
    table = layer("fc", "head") | _convolutions(STEM) | layer("AuxLogits.fc", "auxiliary/head")
    table |= _convolutions({f"AuxLogits.conv{i}": f"auxiliary/conv{i + 1}" for i in (0, 1)})
    for name, branches in inception_v3.MODULES.items():
        ours = [one for branch, of in branches for sides in inception_v3.named(branch, of) for one in sides]
        table |= _convolutions({f"Mixed_{name}.{_branch(one)}": f"mixed_{name}/{one}" for one in ours})
    return table


def _branch(ours: str) -> str:
    """`3x3_double_1` -> `branch3x3dbl_1`."""
    name = ours.replace("pool", "_pool").replace("_double", "dbl").replace("7x7_3x3", "7x7x3")
    return f"branch{name}"


GOOGLENET = Layout(
    library="torchvision",
    module=googlenet.GoogLeNet,
    sign="inception3a.branch1.conv.weight",
    table=_googlenet,
    wanted=lambda shapes: {"large_kernel": 3, "last_pool": 2, "batch_norm": True},
)
INCEPTION_V3 = Layout(
    library="torchvision or timm",
    module=inception_v3.InceptionV3,
    sign="Mixed_5b.branch1x1.conv.weight",
    table=_inception_v3,
    models=r"(gluon_)?inception_v3",
)

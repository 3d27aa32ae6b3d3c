"""ConvNeXt of torchvision and of timm."""

import re
from collections.abc import Sequence
from typing import Any

from research.interop.layouts.layout import Layout, Place, Shapes, Table, count, layers
from research.models.vision.convnext import ConvNeXt


def _torchvision(model: ConvNeXt) -> Table:
    """One list of parts: the stem, then in turn a stage and what halves the sides."""
    parts = {"0": "depthwise", "2": "norm", "3": "feed_forward/up", "5": "feed_forward/down"}
    table = layers(
        {"features.0.0": "stem", "features.0.1": "stem_norm", "classifier.0": "final_norm", "classifier.2": "head"}
    )
    for i, depth in enumerate(model.depths):
        table |= _halving(f"features.{2 * i}", i)
        for j in range(depth):
            block = f"features.{2 * i + 1}.{j}"
            table |= _block(model, f"{block}.block", f"{block}.layer_scale", f"stage{i}_block{j}", parts)
    return table


def _timm(model: ConvNeXt) -> Table:
    parts = {"conv_dw": "depthwise", "norm": "norm", "mlp.fc1": "feed_forward/up", "mlp.fc2": "feed_forward/down"}
    table = layers({"stem.0": "stem", "stem.1": "stem_norm", "head.norm": "final_norm", "head.fc": "head"})
    for i, depth in enumerate(model.depths):
        table |= _halving(f"stages.{i}.downsample", i)
        for j in range(depth):
            block = f"stages.{i}.blocks.{j}"
            table |= _block(model, block, f"{block}.gamma", f"stage{i}_block{j}", parts)
    return table


def _halving(theirs: str, i: int) -> Table:
    """The norm and the convolution before stage i; the first has none."""
    return layers({f"{theirs}.0": f"down{i}_norm", f"{theirs}.1": f"down{i}"}) if i else {}


def _block(model: ConvNeXt, theirs: str, scale: str, ours: str, parts: dict[str, str]) -> Table:
    table = layers({f"{theirs}.{a}": f"{ours}/{b}" for a, b in parts.items()})
    if model.layer_scale:
        table[scale] = Place(f"params/{ours}/scale", lambda _, x: x.reshape(-1))  # [D, 1, 1] in torchvision
    return table


def _wanted(shapes: Shapes, stages: Sequence[str], depthwise: str, stem: str) -> dict[str, Any]:
    """`stages`: where their blocks are; `depthwise`: a block's first convolution."""
    depths = tuple(count(shapes, rf"{re.escape(stage)}\.(\d+)\.") for stage in stages)
    widths = tuple(shapes.get(f"{stage}.0.{depthwise}.weight", (0,))[0] for stage in stages)
    return {"depths": depths, "widths": widths, "patch": shapes[f"{stem}.weight"][-1], "norm_eps": 1e-6}


TORCHVISION = Layout(
    library="torchvision",
    module=ConvNeXt,
    sign="features.1.0.layer_scale",
    table=_torchvision,
    wanted=lambda shapes: _wanted(shapes, [f"features.{i}" for i in (1, 3, 5, 7)], "block.0", "features.0.0"),
)
TIMM = Layout(
    library="timm",
    module=ConvNeXt,
    sign="stages.0.blocks.0.conv_dw.weight",
    table=_timm,
    wanted=lambda shapes: _wanted(shapes, [f"stages.{i}.blocks" for i in range(4)], "conv_dw", "stem.0"),
    refused={r"\.grn\.": "global response normalisation (ConvNeXt V2)", r"^norm_pre\.": "a norm before the pooling"},
    models=r"convnext_(tiny|small|base|large|xlarge)",
)

"""EfficientNet-Lite of timm (its `tf_efficientnet_lite*`), and of efficientnet-lite-pytorch, which names them as Google does.

timm's `efficientnet_lite*`, without `tf_`, have the same names and shapes, and pad differently.
"""

from itertools import groupby
from typing import Any

from research.interop.layouts.layout import Layout, Shapes, Table, count, layers
from research.models.vision.efficientnet import VARIANTS, EfficientNetLite, specs

GOOGLE = {
    "_expand_conv": "expand", "_bn0": "expand_norm", "_depthwise_conv": "depthwise", "_bn1": "depthwise_norm",
    "_project_conv": "out", "_bn2": "out_norm",
}  # fmt: skip
ENDS = {"conv_stem": "stem", "bn1": "stem_norm", "conv_head": "top", "bn2": "top_norm", "classifier": "head"}
# Of blocks that do not expand, and of the others.
FIRST = {"conv_dw": "depthwise", "bn1": "depthwise_norm", "conv_pw": "out", "bn2": "out_norm"}
BLOCK = {
    "conv_pw": "expand", "bn1": "expand_norm", "conv_dw": "depthwise", "bn2": "depthwise_norm", "conv_pwl": "out",
    "bn3": "out_norm",
}  # fmt: skip


def _timm(model: EfficientNetLite) -> Table:
    names, i = dict(ENDS), 0
    for stage, (_, blocks) in enumerate(groupby(specs(model.variant), lambda spec: spec.channels)):
        for j, spec in enumerate(blocks):
            parts = FIRST if spec.expansion == 1 else BLOCK
            names |= {f"blocks.{stage}.{j}.{theirs}": f"block{i}/{ours}" for theirs, ours in parts.items()}
            i += 1
    return layers(names)


def _google(model: EfficientNetLite) -> Table:
    names = {"_conv_stem": "stem", "_bn0": "stem_norm", "_conv_head": "top", "_bn1": "top_norm", "_fc": "head"}
    for i in range(len(specs(model.variant))):
        names |= {f"_blocks.{i}.{theirs}": f"block{i}/{ours}" for theirs, ours in GOOGLE.items()}
    return layers(names)


def _variant(blocks: int, channels: int) -> dict[str, Any]:
    """The variant with so many blocks, of which the last but one has so many channels."""
    found = [one for one in VARIANTS if (len(specs(one)), specs(one)[-2].channels) == (blocks, channels)]
    return {"variant": found[0]} if found else {}


def _wanted_of_timm(shapes: Shapes) -> dict[str, Any]:
    return _variant(count(shapes, r"blocks\.(\d+\.\d+)\."), shapes.get("blocks.5.0.conv_pwl.weight", (0,))[0])


def _wanted_of_google(shapes: Shapes) -> dict[str, Any]:
    blocks = count(shapes, r"_blocks\.(\d+)\.")
    return _variant(blocks, shapes.get(f"_blocks.{blocks - 2}._project_conv.weight", (0,))[0])


TIMM = Layout(
    library="timm",
    module=EfficientNetLite,
    sign="blocks.0.0.conv_dw.weight",
    table=_timm,
    wanted=_wanted_of_timm,
    refused={r"\.se\.": "squeeze-and-excitation"},
    models=r"tf_efficientnet_lite[0-4]",
)
GOOGLE_NAMES = Layout(
    library="efficientnet-lite-pytorch",
    module=EfficientNetLite,
    sign="_conv_stem.weight",
    table=_google,
    wanted=_wanted_of_google,
    refused={r"\._se_": "squeeze-and-excitation"},
)

"""ResNet-18 to -152 of torchvision and timm, which name them alike; their strides are v1.5's, as ours are."""

from typing import Any

from research.interop.layouts.layout import Layout, Shapes, Table, count, layers
from research.models.vision import resnet

IMAGENET = resnet.LAYOUTS["imagenet"]


def _table(model: resnet.ResNet) -> Table:
    bottleneck, stages = IMAGENET[model.depth]
    last = 3 if bottleneck else 2
    names = {"conv1": "stem", "bn1": "stem_norm", "fc": "head"}
    for i, blocks in enumerate(stages):
        for j in range(blocks):
            theirs, ours = f"layer{i + 1}.{j}", f"stage{i}_block{j}"
            for k in range(1, last):
                names |= {f"{theirs}.conv{k}": f"{ours}/conv{k}", f"{theirs}.bn{k}": f"{ours}/norm{k}"}
            names |= {f"{theirs}.conv{last}": f"{ours}/out", f"{theirs}.bn{last}": f"{ours}/out_norm"}
        first = f"layer{i + 1}.0.downsample", f"stage{i}_block0/shortcut"
        names |= {f"{first[0]}.0": first[1], f"{first[0]}.1": f"{first[1]}_norm"}
    return layers(names)


def _wanted(shapes: Shapes) -> dict[str, Any]:
    blocks = tuple(count(shapes, rf"layer{i}\.(\d+)\.") for i in range(1, 5))
    found = {"form": "imagenet", "shortcut": "projection"}
    depth = {layout: depth for depth, layout in IMAGENET.items()}.get(("layer1.0.conv3.weight" in shapes, blocks))
    return found | ({"depth": depth} if depth else {})


RESNET = Layout(
    library="torchvision or timm",
    module=resnet.ResNet,
    sign="layer1.0.conv1.weight",
    table=_table,
    wanted=_wanted,
    refused={
        r"^conv1\.\d": "a stem of several convolutions",
        r"\.downsample\.2\.": "a shortcut that pools (ResNet-D)",
        r"\.se\.": "squeeze-and-excitation",
        r"\.aa\.": "anti-aliasing",
    },
    models=r"(tv_|gluon_)?resnet(18|34|50|101|152)",
)

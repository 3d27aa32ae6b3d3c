"""ConvNeXt: ConvNextForImageClassification, or the bare ConvNextModel."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from research.interop.hf import images
from research.interop.hf.mapping import CONVOLUTION, Architecture, Row, linear, norm, size
from research.models.vision import convnext
from research.util.errors import UserError
from research.util.run_files import shown

STAGES = 4


def _sizes(a: Mapping[str, Any]) -> dict[str, int]:
    sizes = {"C": a["image_shape"][2], "P": a["patch"], "classes": a["num_classes"], "1": 1, "2": 2, "7": 7}
    for i, width in enumerate(a["widths"]):
        sizes |= {f"D{i}": width, f"F{i}": 4 * width}
    return sizes


def _resolve(model: convnext.ConvNeXt) -> dict[str, Any]:
    if len(model.depths) != STAGES:
        raise UserError(f"depths = {model.depths}, where a convnext has {STAGES} stages")
    names = ("patch", "norm_eps", "layer_scale", "drop_path", "num_classes")
    tuples = {name: tuple(getattr(model, name)) for name in ("depths", "widths", "image_shape")}
    return {name: getattr(model, name) for name in names} | tuples


def _numbers(config: Mapping[str, Any], key: str, default: Sequence[int]) -> tuple[int, ...]:
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, list | tuple) or len(value) != STAGES or any(type(n) is not int or n < 1 for n in value):
        raise UserError(f"{key} = {shown(value)}: wanted {STAGES} whole numbers, each at least 1")
    return tuple(value)


def _more(config: Mapping[str, Any]) -> dict[str, Any]:
    shape = (*images.sides(config), size(config, "num_channels", 3))
    depths, widths = _numbers(config, "depths", (3, 3, 9, 3)), _numbers(config, "hidden_sizes", (96, 192, 384, 768))
    return {"depths": depths, "widths": widths, "image_shape": shape, "num_classes": images.classes(config)}


def _written(a: Mapping[str, Any]) -> dict[str, Any]:
    rows, _, channels = a["image_shape"]
    sizes = {
        "image_size": rows,
        "num_channels": channels,
        "depths": list(a["depths"]),
        "hidden_sizes": list(a["widths"]),
    }
    return {**sizes, **images.labels(a["num_classes"])}


def _stage(i: int) -> Iterator[Row]:
    D, block, theirs = f"D{i}", f"stage{i}_block*", f"convnext.encoder.stages.{i}"
    if i:
        yield from norm(f"down{i}_norm", f"{theirs}.downsampling_layer.0", f"D{i - 1}")
        yield from linear(f"down{i}", f"{theirs}.downsampling_layer.1", f"{D} D{i - 1} 2 2", CONVOLUTION)
    layer = f"{theirs}.layers.*"
    yield from linear(f"{block}/depthwise", f"{layer}.dwconv", f"{D} 1 7 7", CONVOLUTION)
    yield from norm(f"{block}/norm", f"{layer}.layernorm", D)
    yield from linear(f"{block}/feed_forward/up", f"{layer}.pwconv1", f"F{i} {D}")
    yield from linear(f"{block}/feed_forward/down", f"{layer}.pwconv2", f"{D} F{i}")
    yield Row(f"{block}/scale", f"{layer}.layer_scale_parameter", D, only="layer_scale")


CONVNEXT = Architecture(
    name="convnext",
    family="image_classification",
    module=convnext.ConvNeXt,
    classes=[("ConvNextForImageClassification", ("head",)), ("ConvNextModel", ())],
    prefix="convnext.",
    table=(
        *linear("stem", "convnext.embeddings.patch_embeddings", "D0 C P P", CONVOLUTION),
        *norm("stem_norm", "convnext.embeddings.layernorm", "D0"),
        *(row for i in range(STAGES) for row in _stage(i)),
        *norm("final_norm", "convnext.layernorm", f"D{STAGES - 1}"),
        *linear("head", "classifier", f"classes D{STAGES - 1}"),
    ),
    keys={
        "patch": ("patch_size", 4),
        "norm_eps": ("layer_norm_eps", 1e-12),
        "layer_scale": ("layer_scale_init_value", 1e-6),
        "drop_path": ("drop_path_rate", 0.0),
    },
    values={},
    constant={},
    fixed={"hidden_act": "gelu", "num_stages": STAGES},
    ignored=frozenset(
        {"depths", "hidden_sizes", "image_size", "num_channels", "out_features", "out_indices", "stage_names"}
    ),
    loose=frozenset({"num_classes", "image_shape", "layer_scale", "drop_path"}),
    sizes=_sizes,
    resolve=_resolve,
    more=_more,
    written=_written,
    optional=("head",),
    layers={f"stage{i}_block*": "depths" for i in range(STAGES)},
)

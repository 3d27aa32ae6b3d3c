"""ViT: ViTForImageClassification, or the bare ViTModel."""

from collections.abc import Mapping
from typing import Any

from research.interop.hf import images
from research.interop.hf.mapping import (
    CONVOLUTION,
    ONE_ROW,
    PACKED,
    PACKED_TRANSPOSED,
    Architecture,
    Row,
    linear,
    norm,
    size,
)
from research.models.vision import vit


def _sizes(a: Mapping[str, Any]) -> dict[str, int]:
    (rows, columns, channels), D, P = a["image_shape"], a["width"], a["patch"]
    tokens = (rows // P) * (columns // P) + 1
    sizes = {"D": D, "F": a["mlp_width"], "P": P, "C": channels, "T": tokens, "N": a["num_heads"], "1": 1}
    return sizes | {"K": D // a["num_heads"], "classes": a["num_classes"]}


def _resolve(model: vit.ViT) -> dict[str, Any]:
    names = (*VIT.keys, *VIT.constant, "image_shape", "num_classes")
    found = {name: getattr(model, name) for name in names}
    return found | {"mlp_width": model.mlp_width or 4 * model.width, "image_shape": tuple(model.image_shape)}


def _more(config: Mapping[str, Any]) -> dict[str, Any]:
    channels = size(config, "num_channels", 3)
    return {"image_shape": (*images.sides(config), channels), "num_classes": images.classes(config)}


def _written(a: Mapping[str, Any]) -> dict[str, Any]:
    rows, columns, channels = a["image_shape"]
    sides = rows if rows == columns else [rows, columns]
    shape = {"image_size": sides, "num_channels": channels, "encoder_stride": a["patch"]}
    return {**shape, **images.labels(a["num_classes"]), "attention_probs_dropout_prob": 0.0}


_LAYER = "vit.encoder.layer.*"
_QKV = tuple(f"{_LAYER}.attention.attention.{x}" for x in ("query", "key", "value"))

VIT = Architecture(
    name="vit",
    family="image_classification",
    module=vit.ViT,
    classes=[("ViTForImageClassification", ("head",)), ("ViTModel", ())],
    prefix="vit.",
    table=(
        Row("class_token", "vit.embeddings.cls_token", "1 1 D", ONE_ROW),
        Row("position", "vit.embeddings.position_embeddings", "1 T D", ONE_ROW),
        Row("patch/kernel", "vit.embeddings.patch_embeddings.projection.weight", "D C P P", CONVOLUTION),
        Row("patch/bias", "vit.embeddings.patch_embeddings.projection.bias", "D"),
        *norm("h_*/attention_norm", f"{_LAYER}.layernorm_before"),
        Row("h_*/attention/qkv/kernel", " ".join(f"{x}.weight" for x in _QKV), "D D, D D, D D", PACKED_TRANSPOSED),
        Row("h_*/attention/qkv/bias", " ".join(f"{x}.bias" for x in _QKV), "D, D, D", PACKED),
        *linear("h_*/attention/out", f"{_LAYER}.attention.output.dense", "D D"),
        *norm("h_*/feed_forward_norm", f"{_LAYER}.layernorm_after"),
        *linear("h_*/feed_forward/up", f"{_LAYER}.intermediate.dense", "F D"),
        *linear("h_*/feed_forward/down", f"{_LAYER}.output.dense", "D F"),
        *norm("final_norm", "vit.layernorm"),
        *linear("head", "classifier", "classes D"),
    ),
    keys={
        "patch": ("patch_size", 16),
        "num_layers": ("num_hidden_layers", 12),
        "num_heads": ("num_attention_heads", 12),
        "width": ("hidden_size", 768),
        "mlp_width": ("intermediate_size", 3072),
        "norm_eps": ("layer_norm_eps", 1e-12),
        "mlp": ("hidden_act", "gelu"),
        "dropout": ("hidden_dropout_prob", 0.0),
    },
    values={"mlp": {"gelu_exact": ("gelu",), "gelu": ("gelu_new", "gelu_pytorch_tanh"), "relu": ("relu",)}},
    constant={"pool": "token", "positions": "learned", "representation": 0},
    fixed={"qkv_bias": True},
    ignored=frozenset(
        {
            "attention_probs_dropout_prob",
            "encoder_stride",
            "image_size",
            "num_channels",
            "pooler_act",
            "pooler_output_size",
        }
    ),
    loose=frozenset({"num_classes", "image_shape", "num_layers", "dropout"}),
    sizes=_sizes,
    resolve=_resolve,
    more=_more,
    written=_written,
    optional=("head",),
    others=r"^(vit\.)?pooler\.",
)

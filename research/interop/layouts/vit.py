"""ViT of torchvision and of timm: an equal network, under other names."""

from typing import Any

from research.interop.layouts.layout import Layout, Place, Shapes, Table, count, joined, layers, one_row
from research.models.vision.vit import ViT

HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}  # by the width, of the published ViTs: no shape shows it


def _both(theirs: str, ours: str, names: tuple[str, str]) -> Table:
    """Queries, keys and values under the names of a weight and a bias."""
    places = (Place(f"params/{ours}/{leaf}", joined) for leaf in ("kernel", "bias"))
    return {f"{theirs}{name}": place for name, place in zip(names, places, strict=True)}


def _torchvision(model: ViT) -> Table:
    table = layers(
        {"conv_proj": "patch", "encoder.ln": "final_norm", "heads.head": "head", "heads.pre_logits": "representation"}
    )
    table |= {
        "class_token": Place("params/class_token", one_row),
        "encoder.pos_embedding": Place("params/position", one_row),
    }
    for i in range(model.num_layers):
        theirs, ours = f"encoder.layers.encoder_layer_{i}", f"h_{i}"
        table |= _both(f"{theirs}.self_attention.", f"{ours}/attention/qkv", ("in_proj_weight", "in_proj_bias"))
        table |= layers(
            {
                f"{theirs}.ln_1": f"{ours}/attention_norm",
                f"{theirs}.self_attention.out_proj": f"{ours}/attention/out",
                f"{theirs}.ln_2": f"{ours}/feed_forward_norm",
                f"{theirs}.mlp.linear_1": f"{ours}/feed_forward/up",  # in the published files
                f"{theirs}.mlp.linear_2": f"{ours}/feed_forward/down",
                f"{theirs}.mlp.0": f"{ours}/feed_forward/up",
                f"{theirs}.mlp.3": f"{ours}/feed_forward/down",
            }
        )
    return table


def _timm(model: ViT) -> Table:
    table = layers({"patch_embed.proj": "patch", "norm": "final_norm", "head": "head"})
    table |= {"cls_token": Place("params/class_token", one_row), "pos_embed": Place("params/position", one_row)}
    for i in range(model.num_layers):
        theirs, ours = f"blocks.{i}", f"h_{i}"
        table |= _both(f"{theirs}.attn.qkv.", f"{ours}/attention/qkv", ("weight", "bias"))
        table |= layers(
            {
                f"{theirs}.norm1": f"{ours}/attention_norm",
                f"{theirs}.attn.proj": f"{ours}/attention/out",
                f"{theirs}.norm2": f"{ours}/feed_forward_norm",
                f"{theirs}.mlp.fc1": f"{ours}/feed_forward/up",
                f"{theirs}.mlp.fc2": f"{ours}/feed_forward/down",
            }
        )
    return table


def _wanted(shapes: Shapes, patch: str, layer: str, pool: str, representation: str = "") -> dict[str, Any]:
    width, _, side, _ = shapes[patch]
    found = {"patch": side, "width": width, "num_layers": count(shapes, layer), "pool": pool, "positions": "learned"}
    found |= {"norm_eps": 1e-6, "mlp": "gelu_exact", "representation": shapes.get(representation, (0,))[0]}
    return found | ({"num_heads": HEADS[width]} if width in HEADS else {})


TORCHVISION = Layout(
    library="torchvision",
    module=ViT,
    sign="encoder.layers.encoder_layer_0.ln_1.weight",
    table=_torchvision,
    wanted=lambda shapes: _wanted(
        shapes, "conv_proj.weight", r"encoder\.layers\.encoder_layer_(\d+)\.", "token", "heads.pre_logits.weight"
    ),
)
TIMM = Layout(
    library="timm",
    module=ViT,
    sign="blocks.0.attn.qkv.weight",
    table=_timm,
    wanted=lambda shapes: _wanted(
        shapes, "patch_embed.proj.weight", r"blocks\.(\d+)\.", "token" if "cls_token" in shapes else "mean"
    ),
    refused={
        r"^fc_norm\.": "the norm is after the pooling, ours before it",
        r"^norm_pre\.": "a norm before the layers (CLIP)",
        r"^reg_token$": "register tokens",
        r"^(dist_token$|head_dist\.)": "a distillation token (DeiT)",
        r"\.ls[12]\.": "scales of the residual branches",
        r"\.attn\.[qk]_norm\.": "norms of queries and keys",
    },
    models=r"(vit|deit)_(tiny|small|base|large|huge)_patch\d+_(gap_)?\d+(_in21k)?",
)

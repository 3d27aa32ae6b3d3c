"""Marian: MarianMTModel, an encoder-decoder that normalises after each branch, with sinusoidal positions."""

from collections.abc import Mapping
from typing import Any

from research.interop.hf.mapping import (
    ONE_ROW,
    PACKED,
    PACKED_TRANSPOSED,
    SAME,
    TRANSPOSED,
    Architecture,
    Row,
    linear,
    norm,
    size,
)
from research.models.text import transformer
from research.util.errors import UserError


def _sizes(a: Mapping[str, Any]) -> dict[str, int]:
    D, H = a["width"], a["num_heads"]
    sizes = {"D": D, "F": a["mlp_width"], "V": a["vocab_size"], "1": 1, "N": H, "K": D // H}
    return sizes | {"W": a["source_vocab_size"]}


def _resolve(model: transformer.Transformer) -> dict[str, Any]:
    names = [*MARIAN.keys, *MARIAN.constant, "vocab_size", "shared", "final_bias"]
    found = {name: getattr(model, name) for name in names}
    return found | {"source_vocab_size": model.source_vocab_size or model.vocab_size}


def _more(config: Mapping[str, Any]) -> dict[str, Any]:
    for one in ("attention_heads", "ffn_dim"):
        encoder, decoder = config.get(f"encoder_{one}"), config.get(f"decoder_{one}")
        if encoder != decoder:
            raise UserError(
                f"encoder_{one} = {encoder} with decoder_{one} = {decoder} is not supported; equal ones are"
            )
    shared, tied = config.get("share_encoder_decoder_embeddings", True), config.get("tie_word_embeddings", True)
    _check_tables(shared, tied)
    source = size(config, "vocab_size", 58101)
    target = source if shared else size(config, "decoder_vocab_size", source)
    return {"shared": shared, "vocab_size": target, "source_vocab_size": source}


def _check_tables(shared: bool, tied: bool) -> None:
    if shared and not tied:  # there, three tables that have but the name in common
        raise UserError("share_encoder_decoder_embeddings without tie_word_embeddings is not supported")


def _written(a: Mapping[str, Any]) -> dict[str, Any]:
    _check_tables(a["shared"], a["tied"])
    return {
        "vocab_size": a["source_vocab_size"],
        "decoder_vocab_size": a["vocab_size"],
        "share_encoder_decoder_embeddings": a["shared"],
        "decoder_attention_heads": a["num_heads"],
        "decoder_ffn_dim": a["mlp_width"],
        "is_encoder_decoder": True,
        "forced_eos_token_id": None,
    }


def _packed(ours: str, theirs: str, parts: str) -> tuple[Row, Row]:
    weights, biases = (" ".join(f"{theirs}.{x}_proj.{kind}" for x in parts) for kind in ("weight", "bias"))
    kernel = Row(f"{ours}/kernel", weights, ", ".join(["D D"] * len(parts)), PACKED_TRANSPOSED)
    return kernel, Row(f"{ours}/bias", biases, ", ".join(["D"] * len(parts)), PACKED)


def _layer(side: str) -> tuple[Row, ...]:
    here, there = f"{side}_*", f"model.{side}.layers.*"
    return (
        *_packed(f"{here}/attention/qkv", f"{there}.self_attn", "qkv"),
        *linear(f"{here}/attention/out", f"{there}.self_attn.out_proj", "D D"),
        *norm(f"{here}/attention_norm", f"{there}.self_attn_layer_norm"),
        *linear(f"{here}/feed_forward/up", f"{there}.fc1", "F D"),
        *linear(f"{here}/feed_forward/down", f"{there}.fc2", "D F"),
        *norm(f"{here}/feed_forward_norm", f"{there}.final_layer_norm"),
    )


_CROSS, _THEIRS = "decoder_*/cross_attention", "model.decoder.layers.*.encoder_attn"

MARIAN = Architecture(
    name="marian",
    family="translation",
    module=transformer.Transformer,
    classes=[("MarianMTModel", ())],
    prefix="model.",
    layers={"encoder_*": "encoder_layers", "decoder_*": "decoder_layers"},
    table=(
        Row("tokens/embedding", "model.shared.weight", "V D", SAME, "shared"),
        Row("tokens/embedding", "model.decoder.embed_tokens.weight", "V D", SAME, "!shared"),
        Row("source_tokens/embedding", "model.encoder.embed_tokens.weight", "W D", SAME, "!shared"),
        *_layer("encoder"),
        *_layer("decoder"),
        *linear(f"{_CROSS}/q", f"{_THEIRS}.q_proj", "D D"),
        *_packed(f"{_CROSS}/kv", _THEIRS, "kv"),
        *linear(f"{_CROSS}/out", f"{_THEIRS}.out_proj", "D D"),
        *norm("decoder_*/cross_attention_norm", f"{_THEIRS}_layer_norm"),
        Row("head/kernel", "lm_head.weight", "V D", TRANSPOSED, "!tied"),
        Row("final_bias", "final_logits_bias", "1 V", ONE_ROW, "final_bias", True),
    ),
    keys={
        "encoder_layers": ("encoder_layers", 12),
        "decoder_layers": ("decoder_layers", 12),
        "num_heads": ("encoder_attention_heads", 16),
        "width": ("d_model", 1024),
        "mlp_width": ("encoder_ffn_dim", 4096),
        "max_length": ("max_position_embeddings", 1024),
        "mlp": ("activation_function", "gelu"),
        "scale_embedding": ("scale_embedding", False),
        "tied": ("tie_word_embeddings", True),
        "dropout": ("dropout", 0.1),
        "attention_dropout": ("attention_dropout", 0.0),
        "activation_dropout": ("activation_dropout", 0.0),
    },
    values={
        "mlp": {
            "gelu_exact": ("gelu",),
            "gelu": ("gelu_new", "gelu_pytorch_tanh"),
            "relu": ("relu",),
            "silu": ("swish", "silu"),
        }
    },
    constant={"positions": "sinusoidal", "copy": False, "pre_norm": False, "norm_eps": 1e-5},
    fixed={"add_final_layer_norm": False, "normalize_before": False, "normalize_embedding": False}
    | {"static_position_embeddings": True, "add_bias_logits": False, "extra_pos_embeddings": 0},
    ignored=frozenset(
        {"classif_dropout", "classifier_dropout", "decoder_attention_heads", "decoder_ffn_dim", "decoder_layerdrop"}
        | {"decoder_vocab_size", "encoder_layerdrop", "init_std", "is_encoder_decoder", "num_hidden_layers"}
        | {"share_encoder_decoder_embeddings", "vocab_size"}
    ),
    loose=frozenset(
        {"vocab_size", "source_vocab_size", "max_length", "encoder_layers", "decoder_layers", "dropout"}
        | {"attention_dropout", "activation_dropout"}
    ),
    sizes=_sizes,
    resolve=_resolve,
    more=_more,
    written=_written,
    copies={f"model.{side}.embed_tokens.weight": "model.shared.weight" for side in ("encoder", "decoder")}
    | {"lm_head.weight": "model.shared.weight model.decoder.embed_tokens.weight"},
    skipped=r"embed_positions\.weight$",  # sines and cosines, in older files
)

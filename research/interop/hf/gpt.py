"""GPT-2 and Llama: two ways to write our GPT."""

import math
from collections.abc import Mapping
from typing import Any

from research.interop.hf.mapping import JOINED, PACKED, PACKED_TRANSPOSED, SAME, TRANSPOSED, Architecture, Row, size
from research.models.text import gpt
from research.util.errors import UserError

LOOSE = frozenset({"vocab_size", "max_length", "num_layers", "dropout"})


def _sizes(a: Mapping[str, Any]) -> dict[str, int]:
    N, K, D = a["kv_heads"], a["width"] // a["num_heads"], a["width"]
    sizes = {"D": D, "F": a["mlp_width"], "V": a["vocab_size"], "P": a["max_length"], "N": N, "K": K}
    return sizes | {"Q": a["num_heads"] * K, "KV": N * K, "3D": 3 * D}


def _resolve(model: gpt.GPT) -> dict[str, Any]:
    names = ("vocab_size", "num_layers", "num_heads", "width", "max_length", "positions", "rotary_base", "norm")
    names += ("norm_eps", "mlp", "experts", "tied", "bias", "dropout")
    found = {name: getattr(model, name) for name in names}
    return found | {"kv_heads": model.kv_heads or model.num_heads, "mlp_width": model.mlp_width or gpt.mlp_width(model)}


def _gpt2_more(config: Mapping[str, Any]) -> dict[str, Any]:
    heads, width = size(config, "n_head", 12), size(config, "n_embd", 768)
    return {"kv_heads": heads, "mlp_width": config.get("n_inner") or 4 * width}


def _gpt2_written(a: Mapping[str, Any]) -> dict[str, Any]:
    if a["kv_heads"] != a["num_heads"]:
        raise UserError(f"kv_heads = {a['kv_heads']}, where a gpt2 has as many as num_heads = {a['num_heads']}")
    return {"attn_pdrop": a["dropout"], "embd_pdrop": a["dropout"]}


GPT2 = Architecture(
    name="gpt2",
    family="language_model",
    module=gpt.GPT,
    classes=[("GPT2LMHeadModel", ())],
    prefix="transformer.",
    table=(
        Row("tokens/embedding", "transformer.wte.weight", "V D"),
        Row("position/embedding", "transformer.wpe.weight", "P D"),
        Row("h_*/attention_norm/scale", "transformer.h.*.ln_1.weight", "D"),
        Row("h_*/attention_norm/bias", "transformer.h.*.ln_1.bias", "D", SAME, "bias", True),
        Row("h_*/attention/qkv/kernel", "transformer.h.*.attn.c_attn.weight", "D 3D", JOINED),
        Row("h_*/attention/qkv/bias", "transformer.h.*.attn.c_attn.bias", "3D", JOINED, "bias", True),
        Row("h_*/attention/out/kernel", "transformer.h.*.attn.c_proj.weight", "D D"),
        Row("h_*/attention/out/bias", "transformer.h.*.attn.c_proj.bias", "D", SAME, "bias", True),
        Row("h_*/feed_forward_norm/scale", "transformer.h.*.ln_2.weight", "D"),
        Row("h_*/feed_forward_norm/bias", "transformer.h.*.ln_2.bias", "D", SAME, "bias", True),
        Row("h_*/feed_forward/up/kernel", "transformer.h.*.mlp.c_fc.weight", "D F"),
        Row("h_*/feed_forward/up/bias", "transformer.h.*.mlp.c_fc.bias", "F", SAME, "bias", True),
        Row("h_*/feed_forward/down/kernel", "transformer.h.*.mlp.c_proj.weight", "F D"),
        Row("h_*/feed_forward/down/bias", "transformer.h.*.mlp.c_proj.bias", "D", SAME, "bias", True),
        Row("final_norm/scale", "transformer.ln_f.weight", "D"),
        Row("final_norm/bias", "transformer.ln_f.bias", "D", SAME, "bias", True),
        Row("head/kernel", "lm_head.weight", "V D", TRANSPOSED, "!tied"),
    ),
    keys={
        "vocab_size": ("vocab_size", 50257),
        "num_layers": ("n_layer", 12),
        "num_heads": ("n_head", 12),
        "width": ("n_embd", 768),
        "mlp_width": ("n_inner", None),
        "max_length": ("n_positions", 1024),
        "norm_eps": ("layer_norm_epsilon", 1e-5),
        "mlp": ("activation_function", "gelu_new"),
        "tied": ("tie_word_embeddings", True),
        "dropout": ("resid_pdrop", 0.1),
    },
    values={"mlp": {"gelu": ("gelu_new", "gelu_pytorch_tanh"), "gelu_exact": ("gelu",)}},
    constant={"positions": "learned", "norm": "layernorm", "experts": 1},
    fixed={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
    ignored=frozenset(
        {"attn_pdrop", "embd_pdrop", "n_ctx", "reorder_and_upcast_attn", "summary_activation", "summary_first_dropout"}
        | {"summary_proj_to_labels", "summary_type", "summary_use_proj"}
    ),
    loose=LOOSE,
    sizes=_sizes,
    resolve=_resolve,
    more=_gpt2_more,
    written=_gpt2_written,
    optional=("head",),
    copies={"lm_head.weight": "transformer.wte.weight"},
    skipped=r"\.attn\.(masked_)?bias$",  # the triangle, in older files
    others=r"^(score|classifier)\.|^multiple_choice_head\.",
)


def _llama_more(config: Mapping[str, Any]) -> dict[str, Any]:
    rope = {"rope_theta": config.get("rope_theta"), "rope_type": "default"}
    for key in ("rope_scaling", "rope_parameters"):
        given = config.get(key) or {}
        if not isinstance(given, Mapping):
            raise UserError(f"{key} = {given!r} is not supported; plain rotary positions are")
        rope |= {k: v for k, v in given.items() if v is not None}
        kind = rope.pop("type", rope["rope_type"])  # its name in older files
        if kind != "default" or rope["rope_type"] != "default" or len(rope) > 2:
            raise UserError(f"{key} = {config[key]!r} is not supported; plain rotary positions are")
    width, heads = size(config, "hidden_size", 4096), size(config, "num_attention_heads", 32)
    if config.get("head_dim") not in (None, width // heads):
        raise UserError(
            f"head_dim = {config['head_dim']} is not supported; hidden_size / num_attention_heads = {width // heads} is"
        )
    biases = [bool(config.get(key)) for key in ("attention_bias", "mlp_bias")]
    if biases[0] != biases[1]:
        raise UserError(f"attention_bias = {biases[0]} with mlp_bias = {biases[1]} is not supported; both or none are")
    base = rope["rope_theta"] or 10_000.0
    if not isinstance(base, int | float) or not 0 < base < math.inf:
        raise UserError(f"rope_theta = {base!r}: wanted a number above 0")
    kv_heads = config.get("num_key_value_heads") or heads
    return {"rotary_base": float(base), "bias": biases[0], "kv_heads": kv_heads}


def _llama_written(a: Mapping[str, Any]) -> dict[str, Any]:
    base = a["rotary_base"]
    return {
        "attention_bias": a["bias"],
        "mlp_bias": a["bias"],
        "head_dim": a["width"] // a["num_heads"],
        "rope_theta": base,  # as readers older than transformers 5 want it
        "rope_parameters": {"rope_type": "default", "rope_theta": base},
        "attention_dropout": 0.0,
    }


def _linear(ours: str, theirs: str, shape: str) -> tuple[Row, Row]:
    out = shape.split()[0]
    kernel = Row(f"{ours}/kernel", f"{theirs}.weight", shape, TRANSPOSED)
    return kernel, Row(f"{ours}/bias", f"{theirs}.bias", out, SAME, "bias")


_QKV = tuple(f"model.layers.*.self_attn.{x}_proj" for x in "qkv")

LLAMA = Architecture(
    name="llama",
    family="language_model",
    module=gpt.GPT,
    classes=[("LlamaForCausalLM", ())],
    prefix="model.",
    table=(
        Row("tokens/embedding", "model.embed_tokens.weight", "V D"),
        Row("h_*/attention_norm/scale", "model.layers.*.input_layernorm.weight", "D"),
        Row("h_*/attention/qkv/kernel", " ".join(f"{x}.weight" for x in _QKV), "Q D, KV D, KV D", PACKED_TRANSPOSED),
        Row("h_*/attention/qkv/bias", " ".join(f"{x}.bias" for x in _QKV), "Q, KV, KV", PACKED, "bias"),
        *_linear("h_*/attention/out", "model.layers.*.self_attn.o_proj", "D Q"),
        Row("h_*/feed_forward_norm/scale", "model.layers.*.post_attention_layernorm.weight", "D"),
        *_linear("h_*/feed_forward/up", "model.layers.*.mlp.up_proj", "F D"),
        *_linear("h_*/feed_forward/gate", "model.layers.*.mlp.gate_proj", "F D"),
        *_linear("h_*/feed_forward/down", "model.layers.*.mlp.down_proj", "D F"),
        Row("final_norm/scale", "model.norm.weight", "D"),
        Row("head/kernel", "lm_head.weight", "V D", TRANSPOSED, "!tied"),
    ),
    keys={
        "vocab_size": ("vocab_size", 32000),
        "num_layers": ("num_hidden_layers", 32),
        "num_heads": ("num_attention_heads", 32),
        "kv_heads": ("num_key_value_heads", None),
        "width": ("hidden_size", 4096),
        "mlp_width": ("intermediate_size", 11008),
        "max_length": ("max_position_embeddings", 2048),
        "norm_eps": ("rms_norm_eps", 1e-6),
        "mlp": ("hidden_act", "silu"),
        "tied": ("tie_word_embeddings", False),
    },
    values={"mlp": {"swiglu": ("silu", "swish")}},
    constant={"positions": "rotary", "norm": "rmsnorm", "experts": 1},
    fixed={},
    ignored=frozenset(
        {"attention_bias", "attention_dropout", "head_dim", "mlp_bias", "pretraining_tp", "rope_parameters"}
        | {"rope_scaling", "rope_theta", "is_llama_config", "max_sequence_length"}
    ),
    loose=LOOSE,
    sizes=_sizes,
    resolve=_resolve,
    more=_llama_more,
    written=_llama_written,
    optional=("head",),
    copies={"lm_head.weight": "model.embed_tokens.weight"},
    skipped=r"rotary_emb\.inv_freq$",
    others=r"^(score|classifier)\.",
)

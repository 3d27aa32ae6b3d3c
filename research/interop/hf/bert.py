"""BERT: BertForPreTraining with its two heads, BertForMaskedLM with one, or the bare BertModel."""

from collections.abc import Mapping
from typing import Any

from research.interop.hf.mapping import PACKED, PACKED_TRANSPOSED, Architecture, Row, linear, norm
from research.models.text import bert


def _sizes(a: Mapping[str, Any]) -> dict[str, int]:
    D = a["width"]
    sizes = {"D": D, "F": a["mlp_width"], "V": a["vocab_size"], "P": a["max_length"], "S": a["num_segments"], "2": 2}
    return sizes | {"N": a["num_heads"], "K": D // a["num_heads"]}


def _resolve(encoder: bert.Encoder) -> dict[str, Any]:
    found = {name: getattr(encoder, name) for name in BERT.keys}
    return found | {"mlp_width": encoder.mlp_width or 4 * encoder.width}


_LAYER, _HERE = "bert.encoder.layer.*", "encoder/h_*"
_QKV = tuple(f"{_LAYER}.attention.self.{x}" for x in ("query", "key", "value"))

BERT = Architecture(
    name="bert",
    family="bert",
    module=bert.Encoder,
    root="encoder",
    classes=[("BertForPreTraining", ("pooler", "mlm", "nsp")), ("BertForMaskedLM", ("mlm",)), ("BertModel", ())],
    prefix="bert.",
    table=(
        Row("encoder/tokens/embedding", "bert.embeddings.word_embeddings.weight", "V D"),
        Row("encoder/position/embedding", "bert.embeddings.position_embeddings.weight", "P D"),
        Row("encoder/segment/embedding", "bert.embeddings.token_type_embeddings.weight", "S D"),
        *norm("encoder/embedding_norm", "bert.embeddings.LayerNorm"),
        Row(f"{_HERE}/attention/qkv/kernel", " ".join(f"{x}.weight" for x in _QKV), "D D, D D, D D", PACKED_TRANSPOSED),
        Row(f"{_HERE}/attention/qkv/bias", " ".join(f"{x}.bias" for x in _QKV), "D, D, D", PACKED),
        *linear(f"{_HERE}/attention/out", f"{_LAYER}.attention.output.dense", "D D"),
        *norm(f"{_HERE}/attention_norm", f"{_LAYER}.attention.output.LayerNorm"),
        *linear(f"{_HERE}/feed_forward/up", f"{_LAYER}.intermediate.dense", "F D"),
        *linear(f"{_HERE}/feed_forward/down", f"{_LAYER}.output.dense", "D F"),
        *norm(f"{_HERE}/feed_forward_norm", f"{_LAYER}.output.LayerNorm"),
        *linear("pooler/dense", "bert.pooler.dense", "D D"),
        *linear("mlm/dense", "cls.predictions.transform.dense", "D D"),
        *norm("mlm/norm", "cls.predictions.transform.LayerNorm"),
        Row("mlm/bias", "cls.predictions.bias", "V"),
        *linear("nsp", "cls.seq_relationship", "2 D"),
    ),
    keys={
        "vocab_size": ("vocab_size", 30522),
        "num_layers": ("num_hidden_layers", 12),
        "num_heads": ("num_attention_heads", 12),
        "width": ("hidden_size", 768),
        "mlp_width": ("intermediate_size", 3072),
        "max_length": ("max_position_embeddings", 512),
        "num_segments": ("type_vocab_size", 2),
        "norm_eps": ("layer_norm_eps", 1e-12),
        "mlp": ("hidden_act", "gelu"),
        "dropout": ("hidden_dropout_prob", 0.1),
    },
    values={"mlp": {"gelu_exact": ("gelu",), "gelu": ("gelu_new", "gelu_pytorch_tanh")}},
    constant={},
    fixed={
        "add_cross_attention": False,
        "is_decoder": False,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
    },  # fmt: skip
    ignored=frozenset(
        {"attention_probs_dropout_prob", "classifier_dropout", "directionality", "pooler_fc_size"}
        | {"pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"}
    ),
    loose=frozenset({"vocab_size", "max_length", "num_layers", "num_segments", "dropout"}),
    sizes=_sizes,
    resolve=_resolve,
    more=lambda config: {},
    written=lambda a: {"attention_probs_dropout_prob": a["dropout"]},
    optional=("pooler", "mlm", "nsp"),
    copies={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    skipped=r"embeddings\.position_ids$",
    others=r"^(classifier|qa_outputs)\.",
)

"""Folders in Hugging Face's form: read, written, written and read again, refused; equal to transformers both ways."""

import json
import struct
from functools import cache, partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from research.interop import huggingface
from research.interop.hf import paths
from research.models.text.bert import BertForPretraining, Encoder
from research.models.text.gpt import GPT
from research.models.text.transformer import Transformer
from research.models.vision import lenet
from research.models.vision.convnext import ConvNeXt
from research.models.vision.vit import ViT
from research.util.errors import UserError

SIZES = {"vocab_size": 31, "num_layers": 2, "num_heads": 4, "width": 32, "max_length": 16}
MODELS = {
    "gpt2": GPT(**SIZES, bias=True),
    "gpt2, no biases, a head of its own": GPT(**SIZES, tied=False, mlp="gelu_exact", mlp_width=40),
    "llama": GPT(
        **SIZES, positions="rotary", norm="rmsnorm", mlp="swiglu", mlp_width=48, kv_heads=2, tied=False, norm_eps=1e-6,
        rotary_base=5e5,
    ),
    "llama, biases": GPT(**SIZES, positions="rotary", norm="rmsnorm", mlp="swiglu", mlp_width=48, bias=True),
    "bert": BertForPretraining(Encoder(**SIZES, mlp_width=48)),
    "bert, bare": Encoder(**SIZES),
    "marian": Transformer(31, 16, 1, 2, 4, 32, 48, mlp="silu", final_bias=True),
    "marian, two vocabularies": Transformer(31, 16, 1, 2, 4, 32, 48, source_vocab_size=29, shared=False, tied=False),
    "vit": ViT(7, (8, 12, 3), 4, 32, 2, 4, mlp_width=48, norm_eps=1e-12),
    "convnext": ConvNeXt(7, (16, 32, 3), (1, 2, 1, 1), (8, 12, 16, 20), 2, norm_eps=1e-12),
}  # fmt: skip
TOKENS = np.random.default_rng(0).integers(0, 29, (2, 12))


def inputs(model):
    """What a model of ours is applied to: images, tokens, or a source, of which the second is padded, and its target."""
    if hasattr(model, "image_shape"):
        return (np.random.default_rng(0).normal(size=(2, *model.image_shape)).astype(np.float32),)
    return (TOKENS, np.arange(12) < [[12], [7]], TOKENS[:, :5]) if isinstance(model, Transformer) else (TOKENS,)


@cache
def drawn(model):
    """Parameters far from their initial values: N(0, 0.2^2)."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs(model))["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: np.float32(0.2 * rng.normal(size=a.shape)), shapes)


nested = partial(traverse_util.unflatten_dict, sep="/")


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@partial(jax.jit, static_argnums=0)
def apply(model, params, *given):
    return model.apply({"params": params}, *given)


@pytest.mark.parametrize("name", MODELS)
def test_written_and_read_again_it_is_the_same_to_the_bit(name, tmp_path):
    model = MODELS[name]
    params = drawn(model)
    huggingface.write(tmp_path / "folder", model, params)
    source = huggingface.read(tmp_path / "folder")
    assert source.architecture.name == name.split(",")[0] and source.left == []
    assert equal(source.placed(model)[0], paths.flat(params))


def test_stacked_layers_are_written_as_single_ones(tmp_path):
    model = MODELS["gpt2"]
    params = paths.flat(drawn(model))
    huggingface.write(tmp_path / "one", model, nested(params))
    huggingface.write(tmp_path / "stacked", model.clone(scan=True), nested(paths.stacked(params)))
    one, stacked = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "stacked"))
    assert one == stacked


def test_zeros_for_absent_biases_are_biases_once_they_are_none(tmp_path):
    """Trained elsewhere in the meantime, they are no longer to be left out."""
    model = GPT(**SIZES)
    huggingface.write(tmp_path / "folder", model, drawn(model))
    assert not huggingface.read(tmp_path / "folder").attributes["bias"]
    change(tmp_path / "folder", lambda arrays: arrays["transformer.h.1.ln_1.bias"].fill(0.1))
    assert huggingface.read(tmp_path / "folder").attributes["bias"]
    with pytest.raises(UserError, match="gpt2 with bias = True; model.bias here is False"):
        huggingface.read(tmp_path / "folder").placed(model)


def test_several_files_with_an_index(tmp_path):
    model, folder = MODELS["gpt2"], tmp_path / "folder"
    huggingface.write(folder, model, drawn(model))
    whole = huggingface.read(folder).arrays
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    names = [f"model-0000{1 + i % 2}-of-00002.safetensors" for i in range(len(tensors))]
    for name in set(names):
        some = {k: x for (k, x), place in zip(tensors.items(), names, strict=True) if place == name}
        safetensors.numpy.save_file(some, folder / name)
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": dict(zip(tensors, names, strict=True))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert equal(huggingface.read(folder).arrays, whole)
    (folder / names[0]).unlink()
    refused(folder, f"lacks {names[0]}, which model.safetensors.index.json names")
    index["weight_map"] = dict.fromkeys(tensors, "../model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "has no weight_map of files beside it")


# A module that is not this, or computes something else


@pytest.mark.parametrize(
    "module, message",
    [
        (
            GPT(**SIZES | {"num_heads": 2}, bias=True),
            "num_heads = 4 (n_head in its config.json); model.num_heads here is 2",
        ),
        (GPT(**SIZES, bias=True, norm_eps=1e-6), "model.norm_eps here is 1e-06"),
        (
            GPT(**SIZES, bias=True, mlp="gelu_exact"),
            "(activation_function in its config.json); model.mlp here is 'gelu_exact'",
        ),
        (GPT(**SIZES, bias=True, positions="rotary"), "positions = 'learned'; model.positions here is 'rotary'"),
        (lenet.MLP(10), "holds a gpt2, a GPT here; this experiment's model is a MLP"),
        (MODELS["bert"], "this experiment's model is a BertForPretraining"),
        (None, "this experiment's model has none to compare with"),
    ],
    ids=["heads", "epsilon", "activation", "positions", "MLP", "BERT", "none"],
)
def test_a_module_that_computes_something_else_is_refused(module, message, tmp_path):
    huggingface.write(tmp_path / "folder", MODELS["gpt2"], drawn(MODELS["gpt2"]))
    with pytest.raises(UserError) as e:
        huggingface.read(tmp_path / "folder").placed(module)
    assert message in str(e.value) and "\n" not in str(e.value)


def test_what_may_differ_may_differ(tmp_path):
    """Sizes that the arrays show, dropout, and how it is computed."""
    huggingface.write(tmp_path / "folder", MODELS["gpt2"], drawn(MODELS["gpt2"]))
    other = GPT(**SIZES | {"vocab_size": 40, "max_length": 8, "num_layers": 1}, bias=True, dropout=0.3, remat=True)
    assert len(huggingface.read(tmp_path / "folder").placed(other)[0]) == 28


def test_an_encoder_is_placed_where_the_module_has_it(tmp_path):
    huggingface.write(tmp_path / "folder", MODELS["bert"], drawn(MODELS["bert"]))
    source = huggingface.read(tmp_path / "folder")
    heads, inside = {"pooler", "mlm", "nsp"}, {"tokens", "position", "segment", "embedding_norm", "h_0", "h_1"}
    encoder = MODELS["bert"].encoder
    for module, into, tops in (
        (MODELS["bert"], "", heads | {"encoder"}),
        (encoder, "", heads | inside),
        (encoder, "body", heads | {"body"}),
    ):
        arrays, theirs = source.placed(module, into)
        assert {path.split("/")[0] for path in arrays} == tops and arrays.keys() == theirs.keys()
    assert theirs["body/h_0/feed_forward/up/kernel"] == "bert.encoder.layer.0.intermediate.dense.weight [48, 32]"


@pytest.mark.parametrize(
    "module, message",
    [
        (GPT(**SIZES, norm="rmsnorm"), "norm = 'rmsnorm', where a gpt2 has 'layernorm'"),
        (GPT(**SIZES, positions="rotary"), "norm = 'layernorm', where a llama has 'rmsnorm'"),
        (GPT(**SIZES, kv_heads=2), "kv_heads = 2, where a gpt2 has as many as num_heads = 4"),
        (GPT(**SIZES, experts=2), "experts = 2, where a gpt2 has 1"),
        (GPT(**SIZES, mlp="swiglu"), "mlp = 'swiglu', where a gpt2 has 'gelu' or 'gelu_exact'"),
        (Transformer(31, 16, 1, 1, 4, 32, 48, pre_norm=True), "pre_norm = True, where a marian has False"),
        (lenet.MLP(10), "the experiment trains a MLP"),
        (None, "the experiment trains several networks"),
    ],
    ids=["norm", "rotary", "key heads", "experts", "SwiGLU", "pre-norm", "MLP", "none"],
)
def test_what_has_no_place_there_is_not_written(module, message, tmp_path):
    with pytest.raises(UserError) as e:
        huggingface.write(tmp_path / "folder", module, {})
    assert message in str(e.value) and "\n" not in str(e.value)
    assert list(tmp_path.iterdir()) == []


def test_parameters_that_are_not_the_modules_are_not_written(tmp_path):
    params = drawn(MODELS["gpt2"])
    with pytest.raises(UserError, match="classes/kernel has no place in a gpt2"):
        huggingface.write(tmp_path / "folder", MODELS["gpt2"], {**params, "classes": {"kernel": np.ones(2)}})
    with pytest.raises(UserError, match=r"lack final_norm/bias, of which a gpt2 has transformer.ln_f.bias \[32\]"):
        huggingface.write(tmp_path / "folder", MODELS["gpt2"], {**params, "final_norm": {"scale": np.ones(32)}})
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="there exists already"):
        huggingface.write(tmp_path / "there", MODELS["gpt2"], params)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


# Folders that are refused


def change(folder, how):
    """Changes the tensors of a folder's file."""
    arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    how(arrays)
    safetensors.numpy.save_file(arrays, folder / "model.safetensors")


def refused(folder, message):
    with pytest.raises(UserError) as e:
        huggingface.read(folder)
    assert message in str(e.value) and "\n" not in str(e.value)


@pytest.fixture
def folder(request, tmp_path):
    model = MODELS[getattr(request, "param", "gpt2")]
    huggingface.write(tmp_path / "folder", model, drawn(model))
    return tmp_path / "folder"


@pytest.mark.parametrize(
    "folder, key, value, message",
    [
        ("gpt2", "model_type", "gptt2", "holds a 'gptt2', which is not read; did you mean 'gpt2'?"),
        ("gpt2", "model_type", None, "names no model_type"),
        ("gpt2", "add_cross_attention", True, "add_cross_attention = True is not supported; False is"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True, "scale_attn_by_inverse_layer_idx = True is not supported"),
        ("gpt2", "activation_function", "relu", "activation_function = 'relu' is not supported; 'gelu_new'"),
        ("gpt2", "n_head", 5, "model.width=32 does not divide by model.num_heads=5"),
        ("gpt2", "n_head", "4", "n_head = '4': wanted a whole number, at least 1"),
        ("gpt2", "sliding_window", 8, "sliding_window = 8 is not supported"),
        ("llama", "rope_scaling", {"type": "linear", "factor": 2.0}, "rope_scaling = {'type': 'linear', 'factor': 2.0}"),
        ("llama", "rope_parameters", {"rope_type": "llama3", "factor": 8.0}, "rope_parameters = {'rope_type': 'llama3'"),
        ("llama", "head_dim", 16, "head_dim = 16 is not supported; hidden_size / num_attention_heads = 8 is"),
        ("llama", "attention_bias", True, "attention_bias = True with mlp_bias = False is not supported"),
        ("bert", "position_embedding_type", "relative_key", "position_embedding_type = 'relative_key' is not supported"),
        ("bert", "is_decoder", True, "is_decoder = True is not supported"),
        ("marian", "normalize_before", True, "normalize_before = True is not supported"),
        ("marian", "decoder_ffn_dim", 64, "encoder_ffn_dim = 48 with decoder_ffn_dim = 64 is not supported"),
        ("marian", "tie_word_embeddings", False, "share_encoder_decoder_embeddings without tie_word_embeddings"),
        ("gpt2", "n_inner", 64, "transformer.h.0.mlp.c_fc.weight is [32, 128], and [32, 64] by config.json"),
        ("gpt2", "n_layer", 3, "lacks transformer.h.2.ln_1.weight, h_2/attention_norm/scale here (and 11 more)"),
        ("gpt2", "n_layer", 1, "transformer.h.1.attn.c_attn.bias has no place in our GPT"),
        ("gpt2", "tie_word_embeddings", False, ""),
        ("vit", "qkv_bias", False, "qkv_bias = False is not supported; True is"),
        ("vit", "image_size", "8", "image_size = '8': wanted one or two whole numbers, at least 1"),
        ("vit", "patch_size", 5, "model.patch = 5: pictures of 8 x 12 pixels are no whole number of patches"),
        ("vit", "image_size", 8, "vit.embeddings.position_embeddings is [1, 7, 32], and [1, 5, 32] by config.json"),
        ("vit", "id2label", {"0": "a"}, "classifier.weight is [7, 32], and [1, 32] by config.json"),
        ("convnext", "depths", [1, 2], "depths = [1, 2]: wanted 4 whole numbers, each at least 1"),
        ("convnext", "depths", [1, 2, 10**9, 1], "depths = 1,000,000,000, and the weights are"),
        ("convnext", "hidden_act", "relu", "hidden_act = 'relu' is not supported; 'gelu' is"),
    ],
    indirect=["folder"],
)  # fmt: skip
def test_a_config_that_asks_for_something_else(folder, key, value, message):
    config = json.loads((folder / "config.json").read_text()) | {key: value}
    (folder / "config.json").write_text(json.dumps(config))
    if message:
        refused(folder, message)
    else:
        assert huggingface.read(folder).missing == ["head/kernel"]


@pytest.mark.parametrize("folder", ["llama", "gpt2", "bert", "marian"], indirect=True)
def test_keys_that_change_nothing_of_what_is_computed(folder):
    """And a byte order mark before them."""
    before = huggingface.read(folder).arrays
    config = json.loads((folder / "config.json").read_text())
    config |= {"output_attentions": True, "do_sample": True, "temperature": 0.6, "top_p": 0.9, "max_new_tokens": 9}
    config |= {"is_llama_config": True} if config["model_type"] == "llama" else {}
    (folder / "config.json").write_text(json.dumps(config), "utf-8-sig")
    assert equal(huggingface.read(folder).arrays, before)


@pytest.mark.parametrize(
    ("special", "start", "written"),
    [
        ({"pad": 5, "eos": 0}, None, 5),
        ({"pad": 5, "eos": 0, "bos": 3}, None, 3),
        ({"pad": 5, "eos": 0, "bos": 3}, 7, 7),
        ({"pad": 5, "eos": 0}, 0, 0),
    ],
)
def test_what_a_decoder_begins_after_is_written(tmp_path, special, start, written):
    tokenizer = SimpleNamespace(special=special, to_json=lambda: '{"name": "word"}')
    huggingface.write(tmp_path / "folder", MODELS["marian"], drawn(MODELS["marian"]), tokenizer, start)
    config = json.loads((tmp_path / "folder/config.json").read_text())
    assert config["decoder_start_token_id"] == written == huggingface.decoder_start(config)
    assert config["pad_token_id"] == 5 == huggingface.decoder_start({"pad_token_id": 5})


@pytest.mark.parametrize(
    "how, message",
    [
        (lambda a: a.pop("transformer.wpe.weight"), "lacks transformer.wpe.weight, position/embedding here"),
        (lambda a: a.update({"transformer.wpe.weight": a["transformer.wpe.weight"][1:]}),
         "transformer.wpe.weight is [15, 32], and [16, 32] by config.json (position/embedding here)"),
        (lambda a: a.update({"transformer.h.0.attn.q_norm.weight": np.ones(8, np.float32)}),
         "transformer.h.0.attn.q_norm.weight has no place in our GPT"),
        (lambda a: a.update({"transformer.wte.weight": np.ones((31, 32), np.int8)}),
         "transformer.wte.weight is I8; only F16, F32, F64, BF16 are read"),
        (lambda a: a.update({"lm_head.weight": np.ones((31, 32), np.float32)}),
         "lm_head.weight is not transformer.wte.weight, as it should be by config.json"),
    ],
    ids=["missing", "shape", "unknown", "quantised", "untied"],
)  # fmt: skip
def test_tensors_that_do_not_fit(folder, how, message):
    change(folder, how)
    refused(folder, message)


def test_what_repeats_another_and_what_is_no_parameter_may_be_there(folder):
    before = huggingface.read(folder).arrays
    extra = {"h.0.attn.bias": np.ones((1, 1, 16, 16)), "h.1.attn.masked_bias": np.float32(-1e4)}

    def change_all(arrays):
        arrays["lm_head.weight"] = arrays["transformer.wte.weight"].copy()
        arrays["score.weight"] = np.ones((2, 32), np.float32)
        arrays |= {f"transformer.{name}": np.asarray(x) for name, x in extra.items()}

    change(folder, change_all)
    source = huggingface.read(folder)
    assert equal(source.arrays, before) and source.left == ["score.weight"]


@pytest.mark.parametrize("folder", ["gpt2", "llama", "bert", "marian"], indirect=True)
def test_a_bare_bodys_names_have_no_prefix(folder):
    before = huggingface.read(folder)

    def bare(arrays):
        for name in list(arrays):
            if not name.startswith(before.architecture.prefix):
                if name != "final_logits_bias":
                    del arrays[name]
            else:
                arrays[name.removeprefix(before.architecture.prefix)] = arrays.pop(name)

    change(folder, bare)
    after = huggingface.read(folder)
    assert set(after.missing) == before.arrays.keys() - after.arrays.keys()
    assert all(np.array_equal(before.arrays[name], x) for name, x in after.arrays.items())
    assert {path.split("/")[0] for path in after.missing} <= {"head", "mlm", "nsp"}


@pytest.mark.parametrize("dtype, bits", [("F16", "<e"), ("BF16", None)])
def test_halves_are_read_as_the_same_numbers(folder, dtype, bits):
    """bfloat16 is the upper half of a float32, IEEE 754's half is struct's `e`."""
    values = np.array([1.0, -2.5, 0.15625, 3e4], np.float32)
    data = b"".join(struct.pack(bits, x) if bits else struct.pack("<f", x)[2:] for x in values)
    wanted = values if bits else np.frombuffer(values.astype("<f4").view("<u4").__and__(0xFFFF0000).tobytes(), "<f4")
    change(folder, lambda a: a.pop("transformer.ln_f.bias"))
    file = folder / "model.safetensors"
    raw = file.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header, body = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    data = data * 8
    header["transformer.ln_f.bias"] = {
        "dtype": dtype,
        "shape": [32],
        "data_offsets": [len(body), len(body) + len(data)],
    }
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + body + data)
    assert np.array_equal(huggingface.read(folder).arrays["final_norm/bias"], np.tile(wanted, 8))


def test_names_of_tensorflows_norms(tmp_path):
    model = MODELS["bert"]
    huggingface.write(tmp_path / "folder", model, drawn(model))
    before = huggingface.read(tmp_path / "folder").arrays

    def old(arrays):
        for name in [name for name in arrays if "LayerNorm" in name]:
            new = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            arrays[new] = arrays.pop(name)

    change(tmp_path / "folder", old)
    assert equal(huggingface.read(tmp_path / "folder").arrays, before)


def test_files_that_are_not_what_they_should_be(folder):
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for content in (whole[:-5], whole[:20], b"", b"no safetensors at all"):
        file.write_bytes(content)
        refused(folder, "model.safetensors is damaged or no safetensors file")
    file.unlink()
    refused(folder, "has neither model.safetensors nor model.safetensors.index.json")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    refused(folder, "has its weights in pytorch_model.bin, a pickle, which may run any code when it is read")
    (folder / "pytorch_model.bin").rename(file)
    file.write_bytes(whole)
    for text, message in (
        ("[]", "is not a JSON object"),
        ("{", "cannot read"),
        ("[" * 100_000, "cannot read"),
        (None, "has no config.json"),
    ):
        (folder / "config.json").unlink(missing_ok=True)
        if text is not None:
            (folder / "config.json").write_text(text)
        refused(folder, message)
    refused(file, "is no folder; give the folder of config.json and model.safetensors")
    refused(folder / "nowhere", "is no folder")


# transformers


def network(name):
    """The network of transformers that MODELS[name] is, every parameter drawn anew."""
    import torch
    import transformers as hf

    gpt = {"vocab_size": 31, "n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 16}
    small = {"vocab_size": 31, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32}
    small |= {"intermediate_size": 48, "max_position_embeddings": 16}
    marian = {"encoder_layers": 1, "decoder_layers": 2, "d_model": 32, "max_position_embeddings": 16, "vocab_size": 31}
    for side in ("encoder", "decoder"):
        marian |= {f"{side}_attention_heads": 4, f"{side}_ffn_dim": 48}
    marian |= {"pad_token_id": 28, "decoder_start_token_id": 28, "eos_token_id": 0, "scale_embedding": True}
    ends = {"bos_token_id": None, "eos_token_id": None}
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48}
    stages = {"depths": [1, 2, 1, 1], "hidden_sizes": [8, 12, 16, 20], "patch_size": 2, "image_size": 16}
    apart = {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False, "activation_function": "relu"}
    theta = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    made = {
        "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**gpt, **ends)),
        "gpt2, no biases, a head of its own": lambda: hf.GPT2LMHeadModel(
            hf.GPT2Config(**gpt, **ends, n_inner=40, activation_function="gelu", tie_word_embeddings=False)
        ),
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**small, **ends, **theta, num_key_value_heads=2)),
        "llama, biases": lambda: hf.LlamaForCausalLM(
            hf.LlamaConfig(
                **small, **ends, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, rms_norm_eps=1e-5
            )
        ),
        "bert": lambda: hf.BertForPreTraining(hf.BertConfig(**small)),
        "bert, bare": lambda: hf.BertModel(hf.BertConfig(**small | {"intermediate_size": 128})),
        "marian": lambda: hf.MarianMTModel(hf.MarianConfig(**marian, activation_function="swish")),
        "marian, two vocabularies": lambda: hf.MarianMTModel(
            hf.MarianConfig(**marian | apart | {"vocab_size": 29, "decoder_vocab_size": 31})
        ),
        "vit": lambda: hf.ViTForImageClassification(
            hf.ViTConfig(**sizes, image_size=[8, 12], patch_size=4, num_labels=7)
        ),
        "convnext": lambda: hf.ConvNextForImageClassification(hf.ConvNextConfig(**stages, num_labels=7)),
    }[name]()
    torch.manual_seed(0)
    with torch.no_grad():
        for path, parameter in made.named_parameters():
            if "embed_positions" not in path:  # sines and cosines
                parameter.normal_(0, 0.2)
        if hasattr(made, "final_logits_bias") and "two" not in name:
            made.final_logits_bias.normal_()
    return made.eval()


def ours(model, params):
    """Every output of our model: logits, or the vectors of a bare encoder."""
    found = apply(model, params, *inputs(model))
    return list(found.values()) if isinstance(found, dict) else [found]


def theirs(made, model):
    import torch

    source, *rest = (torch.tensor(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x) for x in inputs(model))
    more = {"attention_mask": rest[0].long(), "decoder_input_ids": rest[1]} if rest else {}
    with torch.no_grad():
        found = made(source, **more)
    if isinstance(model, BertForPretraining):
        return [found.prediction_logits.numpy(), found.seq_relationship_logits.numpy()]
    return [found[0].numpy()]


def close(got, wanted):
    return all(np.abs(np.asarray(a) - b).max() < 1e-4 for a, b in zip(got, wanted, strict=True))


@pytest.mark.parity
@pytest.mark.parametrize("name", MODELS)
def test_equals_transformers(name, tmp_path):
    """What save_pretrained wrote computes the same here; and what is written here, in from_pretrained."""
    pytest.importorskip("torch")
    hf = pytest.importorskip("transformers")
    model, made = MODELS[name], network(name)
    made.save_pretrained(tmp_path / "theirs")
    source = huggingface.read(tmp_path / "theirs")
    same = model.clone(**{key: source.attributes[key] for key in ("bias", "final_bias") if key in source.attributes})
    arrays, _ = source.placed(same)
    wanted = theirs(made, model)
    assert close(ours(same, nested(arrays)), wanted)

    params = drawn(model)
    written = huggingface.write(tmp_path / "ours", model, params)
    again = getattr(hf, written).from_pretrained(tmp_path / "ours").eval()
    assert type(again) is type(made)
    assert close(theirs(again, model), ours(model, params))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gpt2", {"n_layer": 10**9}, "n_layer = 1,000,000,000, and the weights are"),
        ("llama", {"num_hidden_layers": 10**9}, "num_hidden_layers = 1,000,000,000, and the weights are"),
        ("bert", {"num_hidden_layers": 10**9}, "num_hidden_layers = 1,000,000,000, and the weights are"),
        ("marian", {"decoder_layers": 10**9}, "decoder_layers = 1,000,000,000, and the weights are"),
        ("llama", {"num_attention_heads": 0}, "num_attention_heads = 0: wanted a whole number, at least 1"),
        ("llama", {"num_key_value_heads": -1}, "num_key_value_heads = -1: wanted a whole number, at least 1"),
        ("llama", {"num_attention_heads": True}, "num_attention_heads = True: wanted a whole number"),
        ("llama", {"rope_scaling": 5}, "rope_scaling = 5 is not supported"),
        ("llama", {"rope_parameters": [1]}, "rope_parameters = [1] is not supported"),
        ("llama", {"rope_parameters": None, "rope_theta": "x"}, "rope_theta = 'x': wanted a number above 0"),
        ("llama", {"hidden_act": []}, "hidden_act = [] is not supported"),
        ("gpt2", {"n_head": 0}, "n_head = 0: wanted a whole number, at least 1"),
        ("gpt2", {"n_embd": "a" * 10**6}, "n_embd = 'aaaa"),
        ("gpt2", {"n_inner": -3}, "n_inner = -3: wanted a whole number, at least 1"),
        ("bert", {"num_attention_heads": 0}, "num_attention_heads = 0: wanted a whole number, at least 1"),
        ("marian", {"encoder_attention_heads": 0, "decoder_attention_heads": 0}, "encoder_attention_heads = 0"),
        ("marian, two vocabularies", {"decoder_vocab_size": 2.5}, "decoder_vocab_size = 2.5: wanted a whole number"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_sizes_that_no_model_has_are_told_at_once(name, changes, message, tmp_path):
    huggingface.write(tmp_path / "folder", MODELS[name], drawn(MODELS[name]))
    file = tmp_path / "folder" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(UserError) as e:
        huggingface.read(tmp_path / "folder")
    assert message in str(e.value) and "\n" not in str(e.value) and len(str(e.value)) < 300 + len(str(tmp_path))

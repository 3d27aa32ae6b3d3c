"""almanac import, and almanac export --to huggingface: there and back; what is refused leaves nothing behind."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
import tokenizers as hf

from research.data import tokenizers
from research.data.text import chat
from research.interop import huggingface
from research.interop.hf import tokenizer as hf_tokenizer
from research.models.text import bert, gpt, transformer
from research.models.vision import vit
from research.run import reopen
from research.util.escape import TEXT, visible
from tools import cli

SIZES = {"vocab_size": 256, "num_layers": 1, "num_heads": 2, "width": 16, "max_length": 16}
MODELS = {
    "gpt2": gpt.GPT(**SIZES, mlp_width=64, kv_heads=2, bias=True),
    "llama": gpt.GPT(
        **SIZES | {"max_length": 4096}, positions="rotary", norm="rmsnorm", mlp="swiglu", mlp_width=24, kv_heads=1,
        rotary_base=5e5, norm_eps=1e-6,
    ),
    "bert": bert.BertForPretraining(bert.Encoder(**SIZES | {"vocab_size": 280}, mlp_width=24)),
    "marian": transformer.Transformer(280, 64, 1, 1, 2, 16, 24, mlp="silu", final_bias=True),
}  # fmt: skip
QUICK = ["--config.num_steps=2", "--config.optim.warmup=1", "--config.data.source=files", "--config.data.path=text.txt"]
BYTES = "--config.data.tokenizer=byte"


def make(folder, model):
    tokens = np.ones((3 if isinstance(model, transformer.Transformer) else 1, 1, 1), np.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *tokens)["params"]
    rng = np.random.default_rng(0)
    huggingface.write(folder, model, jax.tree.map(lambda a: np.float32(0.2 * rng.normal(size=a.shape)), shapes))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder with a text, and a folder of weights under the name of its architecture."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 60)
    return tmp_path


def everything(folder):
    return {str(p.relative_to(folder)): p.is_file() and p.read_bytes() for p in folder.rglob("*")}


def byte_tokenizer(folder):
    """A tokenizer.json of 256 tokens, each a byte."""
    alphabet = sorted(hf.pre_tokenizers.ByteLevel.alphabet())
    made = hf.Tokenizer(hf.models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    made.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = hf.decoders.ByteLevel()
    made.save(str(folder / "tokenizer.json"))


def test_a_gpt2_becomes_a_run_and_the_run_the_same_gpt2(here, capsys):
    make(here / "gpt2", MODELS["gpt2"])
    byte_tokenizer(here / "gpt2")
    assert cli.main(["import", "gpt2", *QUICK]) == 0
    run = here / "runs/language_model/gpt2"
    said = capsys.readouterr().out
    assert "init     16 arrays from gpt2 (gpt2)" in said and f"almanac sample {run.relative_to(here)}" in said
    assert ".part" not in said and [p.name for p in run.parent.iterdir()] == ["gpt2"]
    e, state, step = reopen.load(run)
    assert step == 0 and e.cfg.data.length == 16 and e.cfg.data.tokenizer == str(run / "tokenizer.json")
    assert e.load_pretrained.model == MODELS["gpt2"]

    assert cli.main(["export", str(run), "--to", "huggingface", "--out", "back"]) == 0
    assert "back  GPT2LMHeadModel, step 0; read back, bitwise equal" in capsys.readouterr().out
    assert (here / "back/model.safetensors").read_bytes() == (here / "gpt2/model.safetensors").read_bytes()
    there, back = (json.loads((here / name / "tokenizer.json").read_text()) for name in ("gpt2", "back"))
    assert there == back

    assert cli.main(["sample", str(run), "--prompt=the", "--length=4"]) == 0
    assert capsys.readouterr().out.startswith("the")
    assert cli.main(["train", str(run / "config.json"), f"--workdir={run}"]) == 0
    assert "resumed" not in capsys.readouterr().out
    _, trained, step = reopen.load(run, "last")
    assert step == 2 and not jax.tree.all(jax.tree.map(np.array_equal, state.params, trained.params))

    config = json.loads((run / "config.json").read_text())
    config["config"]["model"]["mlp"] = "relu"
    (run / "config.json").write_text(json.dumps(config))
    assert cli.main(["export", str(run), "--to=huggingface", "--out=relu"]) == 2
    assert (
        "none of bert, gpt2, llama, marian, vit, convnext can hold this model: mlp = 'relu', where"
        in capsys.readouterr().err
    )
    assert sorted(p.name for p in here.iterdir()) == ["back", "gpt2", "runs", "text.txt"]


def test_a_llama_keeps_its_positions_and_takes_fewer(here, capsys):
    make(here / "llama", MODELS["llama"])
    assert cli.main(["import", "llama", "--out=run", BYTES, *QUICK, "--config.data.length=16"]) == 0
    e, state, _ = reopen.load(here / "run")
    assert e.load_pretrained.model == MODELS["llama"].clone(max_length=16)
    assert json.loads((here / "run/config.json").read_text())["config"]["pretrained"]["weights"] == "llama"
    capsys.readouterr()
    assert cli.main(["export", "run", "--to=huggingface"]) == 0
    said = capsys.readouterr().out
    assert "run/huggingface  LlamaForCausalLM" in said and "no tokenizer.json: Hugging Face has no 'byte'" in said
    again = huggingface.read(here / "run/huggingface")
    assert all(np.array_equal(x, huggingface.read(here / "llama").arrays[name]) for name, x in again.arrays.items())


def test_a_bert_becomes_a_run_of_its_family(here, capsys):
    make(here / "bert", MODELS["bert"])
    learnt = tokenizers.make("bpe", (here / "text.txt").read_text(), vocab_size=280)
    hf_tokenizer.write(here / "bert", learnt, 16)
    rows = [json.dumps({"text": f"the fox jumps {i} times. the dog sleeps on. it is lazy."}) for i in range(40)]
    (here / "rows.jsonl").write_text("\n".join(rows))
    own = ["--config.data.source=files", "--config.data.path=rows.jsonl"]
    assert cli.main(["import", "bert", "--out=run", *own]) == 0
    e, state, _ = reopen.load(here / "run")
    assert e.cfg.name == "bert/bert" and e.load_pretrained.model == MODELS["bert"]
    capsys.readouterr()
    assert cli.main(["export", "run", "--to=huggingface", "--out=back"]) == 0
    assert capsys.readouterr().out.startswith("back  BertForPreTraining, step 0")
    assert (here / "back/model.safetensors").read_bytes() == (here / "bert/model.safetensors").read_bytes()
    assert (here / "back/tokenizer.json").read_bytes() == (here / "bert/tokenizer.json").read_bytes()


def test_a_marian_becomes_a_run_of_translation(here, capsys):
    make(here / "marian", MODELS["marian"])
    learnt = tokenizers.make("bpe", (here / "text.txt").read_text(), vocab_size=280)
    hf_tokenizer.write(here / "marian", learnt, 16)
    assert cli.main(["import", "marian", "--out=run"]) == 0
    e, _, _ = reopen.load(here / "run")
    assert e.cfg.name == "translation/marian" and e.cfg.data.length == 64
    assert e.load_pretrained.model.clone(max_length=64, source_vocab_size=None) == MODELS["marian"]
    assert cli.main(["export", "run", "--to=huggingface", "--out=back"]) == 0
    assert "back  MarianMTModel, step 0" in capsys.readouterr().out
    for name in ("model.safetensors", "tokenizer.json"):
        assert (here / "back" / name).read_bytes() == (here / "marian" / name).read_bytes()
    about = json.loads((here / "back/config.json").read_text())
    assert about["decoder_start_token_id"] == learnt.special["bos"] and about["eos_token_id"] == learnt.special["eos"]


def test_a_vit_begins_a_run_of_pictures_and_is_none_of_its_own(here, capsys):
    model = vit.ViT(3, (8, 8, 1), 4, 16, 1, 2, mlp_width=24)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.ones((1, 8, 8, 1), np.float32))["params"]
    huggingface.write(here / "vit", model, jax.tree.map(lambda a: np.ones(a.shape, np.float32), shapes))
    assert cli.main(["import", "vit"]) == 2
    assert "whose classes are those of your pictures: start from it" in capsys.readouterr().err
    sizes = {"patch": 4, "width": 16, "num_layers": 1, "num_heads": 2, "mlp_width": 24}
    keys = [f"--config.model.{key}={value}" for key, value in {"name": "vit", **sizes}.items()]
    begin = ["--config.pretrained.weights=vit", "--config.pretrained.fresh=^head/"]
    brief = ["--config.num_steps=2", "--config.optim.warmup=1"]
    assert cli.main(["train", "image_classification/digits", "--workdir=run", *keys, *begin, *brief]) == 0
    assert "arrays from vit (vit)" in capsys.readouterr().out
    assert cli.main(["export", "run", "--to=huggingface", "--out=back"]) == 0
    assert capsys.readouterr().out.startswith("back  ViTForImageClassification, step 2")
    assert len(json.loads((here / "back/config.json").read_text())["id2label"]) == 10


@pytest.mark.data
def test_training_begins_with_a_folder_of_gpt2s_vocabulary(here, capsys):
    sizes = {"num_layers": 2, "num_heads": 2, "width": 8, "max_length": 16}
    words = [
        "train",
        "language_model/tiny",
        "--workdir=run",
        "--init-from=gpt2",
        *QUICK,
        "--config.data.tokenizer=gpt2",
    ]
    words += ["--config.model.width=8", "--config.model.bias=True"]
    make(here / "gpt2", gpt.GPT(**sizes, vocab_size=50_257, bias=True))
    assert cli.main(words) == 0
    assert "init     28 arrays from gpt2 (gpt2)" in capsys.readouterr().out
    _, state, step = reopen.load(here / "run", "last")
    table = np.asarray(state.params["tokens"]["embedding"])
    moved = np.abs(table - huggingface.read(here / "gpt2").arrays["tokens/embedding"])
    assert step == 2 and 0 < moved.max() < 0.1  # two steps away from where it began

    make(here / "filled", gpt.GPT(**sizes, vocab_size=50_304, bias=True))
    assert cli.main(["train", "language_model/tiny", "--workdir=other", "--init-from=filled", *words[4:]]) == 2
    assert "tokens/embedding is [50304, 8] there (transformer.wte.weight [50304, 8]), [50257, 8] here" in (
        capsys.readouterr().err
    )


def spoil(folder, how):
    """A folder of GPT-2, and what is wrong with it."""
    make(folder / "gpt2", MODELS["gpt2"])
    file, config = folder / "gpt2/model.safetensors", folder / "gpt2/config.json"
    about, arrays = json.loads(config.read_text()), safetensors.numpy.load_file(file)
    if how == "architecture":
        about["model_type"] = "mistral"
    elif how == "missing":
        del arrays["transformer.wpe.weight"]
    elif how == "shape":
        arrays["transformer.wpe.weight"] = np.zeros((4, 16), np.float32)
    elif how == "head":
        about["tie_word_embeddings"] = False
    config.write_text(json.dumps(about))
    safetensors.numpy.save_file(arrays, file)
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-1])
    elif how == "pickle":
        file.rename(file.with_name("pytorch_model.bin"))


@pytest.mark.parametrize(
    "how, more, message",
    [
        ("architecture", [BYTES], "gpt2 holds a 'mistral', which is not read"),
        ("missing", [BYTES], "gpt2 lacks transformer.wpe.weight, position/embedding here"),
        ("shape", [BYTES], "transformer.wpe.weight is [4, 16], and [16, 16] by config.json (position/embedding here)"),
        ("head", [BYTES], "gpt2 lacks lm_head.weight [256, 16], head/kernel here: the model is incomplete"),
        ("truncated", [BYTES], "gpt2/model.safetensors is damaged or no safetensors file"),
        ("pickle", [BYTES], "gpt2 has its weights in pytorch_model.bin, a pickle"),
        ("", [], "gpt2 has no tokenizer.json, and other formats are not read: name a tokenizer of 256 tokens"),
        ("", [BYTES, "--out=text.txt"], "text.txt exists already; give a new folder"),
        ("", [BYTES, "--out=text.txt/run"], "cannot write to text.txt/run"),
        (
            "",
            [BYTES, "--config.model.num_heads=4"],
            "num_heads = 2 (n_head in its config.json); model.num_heads here is 4",
        ),
        (
            "",
            ["--config.data.tokenizer=char"],
            "is [256, 16] there (transformer.wte.weight [256, 16]), [28, 16] here",
        ),
        ("", [BYTES, "--config.data.lenght=4"], "did you mean 'data.length'?"),
    ],
)
def test_what_is_refused_is_one_line_and_leaves_nothing(here, capsys, how, more, message):
    spoil(here, how)
    was = everything(here)
    assert cli.main(["import", "gpt2", *QUICK, *more]) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("almanac: ") and err.count("\n") == 1, err
    assert everything(here) == was


def test_no_folder(here, capsys):
    for name in ("nowhere", "text.txt"):
        assert cli.main(["import", name]) == 2
        assert f"{name} is no folder; give the folder of config.json" in capsys.readouterr().err


# Continuations equal to transformers'


def special_tokenizer(folder, special, first):
    """Bytes, and after them special tokens, of which `first` (if any) is put before a text."""
    byte_tokenizer(folder)
    made = hf.Tokenizer.from_file(str(folder / "tokenizer.json"))
    made.add_special_tokens(special)
    if first:
        ids = [(first, made.token_to_id(first))]
        made.post_processor = hf.processors.TemplateProcessing(single=f"{first} $A", special_tokens=ids)
    made.save(str(folder / "tokenizer.json"))
    return {token: made.token_to_id(token) for token in special}


def drawn(made):
    """The network with parameters far from 0, so that no two tokens are nearly as likely."""
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "embed_positions" not in name:
                parameter.normal_(0, 0.3)
    return made.eval()


@pytest.mark.parity
def test_a_llama_continues_as_transformers_does(here, capsys):
    """With the <s> that its tokenizer puts before a text, ChatML's markers as the tokens that they are, and a config of old."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    (here / "llama").mkdir()
    ids = special_tokenizer(here / "llama", ["<s>", "</s>", "<|im_start|>", "<|im_end|>"], "<s>")
    config = transformers.LlamaConfig(
        vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, bos_token_id=ids["<s>"], eos_token_id=None,
    )  # fmt: skip
    made = drawn(transformers.LlamaForCausalLM(config))
    made.save_pretrained(here / "llama")
    about = json.loads((here / "llama/config.json").read_text())
    about |= {"is_llama_config": True, "output_attentions": True, "do_sample": True, "temperature": 0.6, "top_p": 0.9}
    (here / "llama/config.json").write_text(json.dumps(about))
    assert cli.main(["import", "llama", "--out=run", *QUICK]) == 0
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(here / "llama/tokenizer.json"))

    def continued(tokens):
        with torch.no_grad():
            found = made.generate(torch.tensor([tokens]), do_sample=False, max_new_tokens=12, pad_token_id=0)
        return found[0, len(tokens) :].tolist()

    e, _, _ = reopen.load(here / "run")
    prompt = tokenizer("the quick").input_ids
    assert prompt[0] == ids["<s>"] and e.predictor.codec.encode("the quick")["tokens"].tolist() == [prompt]
    capsys.readouterr()
    assert cli.main(["sample", "run", "--prompt=the quick", "--temperature=0", "--length=12"]) == 0
    said = capsys.readouterr().out.removesuffix("\n").removeprefix("the quick")
    assert said == visible(e.tokenizer.decode(np.array(continued(prompt))).rstrip("\ufffd"), keep=TEXT)

    talk = [{"role": "user", "content": "Hello"}]
    (here / "talk.json").write_text(json.dumps(talk))
    template = chat.CHATML.replace("{%- generation %}", "").replace("{% endgeneration %}", "")
    text = tokenizer.apply_chat_template(talk, chat_template=template, add_generation_prompt=True, tokenize=False)
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    assert cli.main(["sample", "run", "--chat=talk.json", "--temperature=0", "--length=12"]) == 0
    said = capsys.readouterr().out.removesuffix("\n").removeprefix(text)
    wanted = e.tokenizer.decode(np.array(continued(tokens))).split("<|im_end|>")[0]
    assert said == visible(wanted.rstrip("\ufffd"), keep=TEXT)


@pytest.mark.parity
@pytest.mark.parametrize("first", ["<pad>", "<start>"])
def test_a_marian_without_a_begin_token_translates_as_transformers_does(here, capsys, first):
    """As opus-mt's: </s>, <unk>, <pad>, and a decoder that begins after what config.json names."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    (here / "marian").mkdir()
    ids = special_tokenizer(here / "marian", ["</s>", "<unk>", "<pad>", "<start>"], None)
    sizes = {
        f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in (("attention_heads", 4), ("ffn_dim", 48))
    }
    config = transformers.MarianConfig(
        vocab_size=260, d_model=32, encoder_layers=1, decoder_layers=1, **sizes, max_position_embeddings=32,
        activation_function="swish", scale_embedding=True, pad_token_id=ids["<pad>"], eos_token_id=ids["</s>"],
        decoder_start_token_id=ids[first], forced_eos_token_id=None,
    )  # fmt: skip
    made = drawn(transformers.MarianMTModel(config))
    made.save_pretrained(here / "marian")
    assert cli.main(["import", "marian", "--out=run", "--config.translate.beam=1"]) == 0
    e, state, _ = reopen.load(here / "run")
    assert e.data.bos == e.cfg.data.decoder_start == ids[first] and "bos" not in e.tokenizer.special

    def translated(network, line):
        tokens = torch.tensor([[*e.tokenizer.encode(line).tolist(), ids["</s>"]]])
        banned = [[ids["<pad>"]], [ids[first]]]
        with torch.no_grad():
            found = network.generate(tokens, do_sample=False, num_beams=1, max_new_tokens=8, bad_words_ids=banned)
        return found[0, 1:].tolist()

    outputs = e.predictor.fn(state.variables, e.predictor.codec.encode("the quick\nbrown fox"))
    ours = np.asarray(outputs["tokens"])[:, :8].tolist()
    assert ours == [translated(made, line) for line in ("the quick", "brown fox")]
    assert cli.main(["export", "run", "--to=huggingface", "--out=back"]) == 0
    about = json.loads((here / "back/config.json").read_text())
    assert about["decoder_start_token_id"] == ids[first] and about["pad_token_id"] == ids["<pad>"]
    back = transformers.MarianMTModel.from_pretrained(here / "back").eval()
    assert translated(back, "the quick") == ours[0]

"""Paper-scale configs: their size by abstract shapes, and two real steps of the same recipe made small."""

import json
import math

import jax
import numpy as np
import pytest

from research.core import config, state
from research.data.text import synthetic_qa
from research.run import reopen
from tools.verbs import train


def two_steps(name, folder, changes):
    small = [*changes, "num_steps=2", "optim.warmup=1", "log_every=1", "eval_every=2", "save_every=2"]
    train.trainer(name)(config.load(name, small), folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [row["values"]["loss"] for row in rows if "loss" in row["values"]]
    assert len(losses) >= 3 and all(math.isfinite(loss) for loss in losses)
    return losses


def parameters(name, changes):
    e = reopen.build(name, config.load(name, changes))
    return state.count(jax.eval_shape(e.init_fn, jax.random.key(0))["params"])


def test_gpt2_124m(tmp_path):
    """Bytes for BPE; bfloat16, FSDP, a scan with remat and accumulation as they stand in the config."""
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 2_000)
    text = [f"data.path={tmp_path / 'text.txt'}", "data.tokenizer=byte"]
    # 12 D^2 a layer and two norms; one norm; the positions; V * D of 256 bytes in place of 50,257 tokens.
    layer = 12 * 768**2 + 2 * 768
    assert parameters("language_model/gpt2_124m", text) == 12 * layer + 768 + 1024 * 768 + 256 * 768
    small = ["data.length=32", "data.batch_size=32", "data.eval_batch_size=8", "model.num_layers=2"]
    small += ["model.width=64", "model.num_heads=2", "sample.length=4"]
    losses = two_steps("language_model/gpt2_124m", tmp_path / "run", text + small)
    assert losses[0] == pytest.approx(math.log(256), rel=0.02)  # as good as a guess among bytes


@pytest.mark.slow
def test_resnet50_imagenet(tmp_path):
    """Random pictures for ImageNet's; bfloat16, FSDP, crops, flips and smoothing as they stand in the config."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (64, 32, 32, 3), dtype=np.uint8), rng.permutation(np.arange(64) % 4)
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    data = ["data.source=arrays", f"data.path={tmp_path / 'data.npz'}", "data.size=None"]
    data += ["data.batch_size=16", "data.eval_batch_size=8"]
    # Published with 1,000 classes: 25,557,032.
    assert parameters("image_classification/resnet50_imagenet", data) == 25_557_032 - (1_000 - 4) * (2_048 + 1)
    two_steps("image_classification/resnet50_imagenet", tmp_path / "run", data)


@pytest.mark.slow
def test_bert_base_uncased(tmp_path):
    """Learnt pieces for WordPiece's; bfloat16, FSDP, a scan with remat and predictions at positions as they stand."""
    rows = [
        json.dumps({"text": f"The {word} fox jumps. It is {word}. So it goes on.\n" * 9})
        for word in ("quick", "lazy") * 16
    ]
    (tmp_path / "text.jsonl").write_text("\n".join(rows))
    text = [f"data.path={tmp_path / 'text.jsonl'}", "data.tokenizer=bpe", "data.vocab_size=280"]
    e = reopen.build("bert/base_uncased", config.load("bert/base_uncased", text))
    V = e.data.tokenizer.size
    # Published with 30,522 pieces: 110,106,428 with both heads. A piece is a row of the table and a bias.
    assert parameters("bert/base_uncased", text) == 110_106_428 - (30_522 - V) * (768 + 1)
    small = ["data.length=32", "data.batch_size=32", "data.eval_batch_size=8", "data.predictions=5"]
    small += ["model.num_layers=2", "model.width=64", "model.num_heads=2"]
    losses = two_steps("bert/base_uncased", tmp_path / "run", text + small)
    assert losses[0] == pytest.approx(math.log(V) + math.log(2), rel=0.05)  # as good as two guesses


def test_wmt14_en_de(tmp_path):
    """Numbers for sentences and fewer pieces; bfloat16, FSDP, the rate, the beam and the mean as they stand."""
    for part, start in (("train", 0), ("valid", 900), ("test", 950)):
        numbers = range(start, start + (900 if part == "train" else 50))
        (tmp_path / f"{part}.en").write_text("".join(f"the number {n}.\n" for n in numbers))
        (tmp_path / f"{part}.de").write_text("".join(f"die Zahl {n}.\n" for n in numbers))
    text = [f"data.path={tmp_path}", "data.vocab_size=280"]
    e = reopen.build("translation/wmt14_en_de", config.load("translation/wmt14_en_de", text))
    V = e.data.target.size
    # 6 (4 D^2 + 2 D F) and 6 (8 D^2 + 2 D F) weights with their biases and norms; one embedding.
    D, F = 512, 2048
    encoder, decoder = (n * D * D + n * D + 2 * D * F + F + D + (n // 2 + 2) * D for n in (4, 8))
    assert parameters("translation/wmt14_en_de", text) == 6 * (encoder + decoder) + V * D
    assert float(e.tx.schedule(4_000)) == pytest.approx((512 * 4_000) ** -0.5, rel=1e-3)  # Vaswani 2017, equation 3
    assert float(e.tx.schedule(100_000)) == pytest.approx((512 * 100_000) ** -0.5, rel=1e-3)
    small = ["data.tokens=512", "data.eval_tokens=512", "data.buckets=2", "model.width=64", "model.num_heads=2"]
    small += ["model.encoder_layers=1", "model.decoder_layers=1", "model.mlp_width=64", "translate.more=4"]
    losses = two_steps("translation/wmt14_en_de", tmp_path / "run", text + small)
    assert losses[0] == pytest.approx(math.log(V), rel=0.5)  # the embedding's rows are of length 1, not 0


def asked(folder):
    """Fact sheets as a file in SQuAD's form, for its own."""
    articles = [
        {"title": title, "paragraphs": [{"context": passage, "qas": [
            {"id": f"{i}-{j}", "question": q.question, "answers": [{"text": q.answer, "answer_start": q.start}]}
            for j, q in enumerate(questions)
        ]}]}
        for i, (title, passage, questions) in enumerate(synthetic_qa.passages("train", 40))
    ]  # fmt: skip
    (folder / "questions.json").write_text(json.dumps({"data": articles}))
    return ["data.source=files", f"data.path={folder / 'questions.json'}"]


def test_squad_bert(tmp_path):
    """Learnt pieces for BERT's vocabulary; bfloat16, its windows, rates and decay as they stand in the config."""
    data = [*asked(tmp_path), "data.tokenizer=bpe", "data.vocab_size=400", "data.valid_fraction=0.1"]
    # bert-base-uncased without its pooler has 109,482,240 - 768 * 769 with 30,522 pieces; the head is 2 * 769.
    count = parameters("question_answering/squad_bert", data)
    assert count == 109_482_240 - 768 * 769 - (30_522 - 400) * 768 + 2 * 769
    small = [
        "data.length=96",
        "data.question_length=32",
        "data.stride=24",
        "data.batch_size=8",
        "data.eval_batch_size=8",
    ]
    small += ["model.num_layers=1", "model.width=32", "model.num_heads=2"]
    losses = two_steps("question_answering/squad_bert", tmp_path / "run", data + small)
    assert losses[0] < math.log(96)  # of the places that an answer may have, fewer than 96


@pytest.mark.slow
def test_squad_bidaf(tmp_path):
    """Adadelta and averaged weights, characters alone, as they stand in the config."""
    small = ["data.length=80", "data.stride=40", "data.char_min_count=1", "data.batch_size=8", "data.eval_batch_size=8"]
    small += ["model.width=8", "model.filters=8", "data.valid_fraction=0.1"]
    two_steps("question_answering/squad_bidaf", tmp_path / "run", asked(tmp_path) + small)


def reviews(folder):
    rows = [
        json.dumps({"text": f"review {i} is {word}. " * 8, "label": word})
        for i in range(32)
        for word in ("good", "bad")
    ]
    (folder / "reviews.jsonl").write_text("\n".join(rows))
    return ["data.source=files", f"data.path={folder / 'reviews.jsonl'}", "data.tokenizer=bpe", "data.vocab_size=280"]


def vocab_size(name, changes):
    return reopen.build(name, config.load(name, changes)).tokenizer.size


SMALL = ["data.length=32", "data.batch_size=8", "model.num_layers=2", "model.width=64", "model.num_heads=2"]


def test_article2_gpt2(tmp_path, capsys):
    """Learnt pieces for GPT-2's; two steps of a small one begin with the weights of a run of GPT-2's layers."""
    name, data = "text_classification/article2_gpt2", reviews(tmp_path)
    # Published with 50,257 tokens and 1,024 positions: 124,439,808, its head tied. Two classes are 2 * 769.
    V = vocab_size(name, data)
    assert parameters(name, data) == 124_439_808 - (50_257 - V + 1_024 - 512) * 768 + 2 * 769
    text = "".join(json.loads(line)["text"] for line in (tmp_path / "reviews.jsonl").read_text().splitlines())
    (tmp_path / "text.txt").write_text(text * 4)
    model = [change for change in SMALL if not change.startswith("data")] + ["model.bias=True"]
    generator = [f"data.path={tmp_path / 'text.txt'}", "data.source=files", "data.tokenizer=bpe", "data.vocab_size=280"]
    train.trainer("language_model/tiny")(
        config.load("language_model/tiny", [*generator, *model, "data.length=64", "num_steps=2", "optim.warmup=1"]),
        tmp_path / "gpt",
    )
    begin = [f"pretrained.weights={tmp_path / 'gpt'}", "pretrained.into=gpt", "pretrained.fresh=^head/"]
    begin += ["pretrained.resize=embedding"]
    losses = two_steps(name, tmp_path / "run", [*data, *SMALL, *begin])
    assert losses[0] == pytest.approx(math.log(2), rel=0.3)  # as good as a guess among two classes
    assert str(tmp_path / "gpt") in capsys.readouterr().out  # the line on what was loaded


def test_article4_bert(tmp_path):
    """Words with a class token for WordPiece's; length, dropout, rate and epochs as they stand in the config."""
    name, data = "text_classification/article4_bert", reviews(tmp_path)
    cfg = config.load(name)
    assert (cfg.data.length, cfg.data.batch_size, cfg.model.dropout, cfg.num_steps) == (512, 2, 0.1, "3 epochs")
    assert (cfg.optim.name, cfg.optim.peak_lr, cfg.optim.schedule) == ("adam", 2e-5, "constant")
    # bert-base-uncased has 109,482,240 with its pooler and 30,522 pieces. Two classes are 2 * 769.
    assert parameters(name, data) == 109_482_240 - (30_522 - vocab_size(name, data)) * 768 + 2 * 769
    losses = two_steps(name, tmp_path / "run", [*data, *SMALL])
    assert losses[0] == pytest.approx(math.log(2), rel=0.1)


def test_article2_resnet50(tmp_path):
    """Random pictures for Fashion-MNIST's; the other network is a vision transformer."""
    name, data = "image_classification/article2_resnet50", pictures(tmp_path, (28, 28, 1), classes=10)
    # Published with 1,000 classes and three channels: 25,557,032.
    assert parameters(name, data) == 25_557_032 - (1_000 - 10) * (2_048 + 1) - 7 * 7 * 64 * (3 - 1)
    vit = ["model.name=vit", "model.patch=4"]
    small = [*vit, "model.width=32", "model.num_layers=2", "model.num_heads=2", "data.batch_size=8"]
    losses = two_steps(name, tmp_path / "run", [*data, *small])
    assert losses[0] == pytest.approx(math.log(10), rel=0.1)


def test_article4_transformer(tmp_path):
    for part, count in (("train", 90), ("valid", 9), ("test", 9)):
        for language in ("en", "de"):
            (tmp_path / f"{part}.{language}").write_text("".join(f"the number {n}.\n" for n in range(count)))
    name, data = (
        "translation/article4_transformer",
        ["data.source=files", f"data.path={tmp_path}", "data.vocab_size=280"],
    )
    cfg = config.load(name)
    assert (cfg.model.width, cfg.model.num_heads, cfg.optim.name, cfg.optim.peak_lr) == (512, 8, "adam", 1e-3)
    D, F, V = 512, 2048, reopen.build(name, config.load(name, data)).data.target.size
    encoder, decoder = (n * D * D + n * D + 2 * D * F + F + D + (n // 2 + 2) * D for n in (4, 8))  # as wmt14_en_de
    assert parameters(name, data) == 6 * (encoder + decoder) + V * D
    small = ["width=32", "mlp_width=64", "num_heads=2", "encoder_layers=1", "decoder_layers=1"]
    losses = two_steps(name, tmp_path / "run", [*data, *(f"model.{change}" for change in small), "scores=()"])
    assert losses[0] == pytest.approx(math.log(V), rel=0.3)  # a guess among all pieces, by tied and so random logits


def pictures(folder, shape, classes=4):
    """Random pictures as arrays."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (64, *shape), dtype=np.uint8), rng.permutation(np.arange(64) % classes)
    np.savez(folder / "data.npz", images=images, labels=labels)
    return ["data.source=arrays", f"data.path={folder / 'data.npz'}", "data.size=None", "data.eval_batch_size=8"]


def test_vit_s16_imagenet(tmp_path):
    """Random pictures for ImageNet's; bfloat16, FSDP, RandAugment, crops and mixup as they stand in the config."""
    data = [*pictures(tmp_path, (32, 48, 3)), "data.batch_size=16"]
    # DeiT-S, 22,050,664 with 1,000 classes, without the class token and positions, with a square layer before the head.
    count = 22_050_664 - 384 - 197 * 384 + 384 * 385 - (1_000 - 4) * 385
    assert parameters("image_classification/vit_s16_imagenet", [*data, "optim.warmup=1"]) == count
    small = ["model.width=32", "model.num_layers=2", "model.num_heads=2", "model.representation=16"]
    losses = two_steps("image_classification/vit_s16_imagenet", tmp_path / "run", data + small)
    assert losses[0] == pytest.approx(math.log(4), rel=0.01)  # its head is zero


@pytest.mark.parametrize(
    ("name", "count", "small"),
    [
        # 28 x 28 padded to 32 x 32, of one channel: 2 * 4 * 4 * 256 and 2 * 9 * 64 weights fewer than with three.
        ("fashion_vit_lite", 3_716_874 - 2 * 16 * 256, ["model.width=32", "model.num_layers=1", "model.mlp_width=32"]),
        ("fashion_cct", 283_723 - 2 * 9 * 64, ["model.width=32", "model.filters=8", "model.mlp_width=32"]),
    ],
)
def test_compact_transformers_on_fashion_mnist(name, count, small, tmp_path):
    """Random pictures for Fashion-MNIST's; RandAugment, CutMix or mixup, and smoothing as they stand in the config."""
    data = [*pictures(tmp_path, (28, 28), 10), "data.batch_size=16", "data.valid_fraction=0.1"]
    assert parameters(f"image_classification/{name}", data) == count
    losses = two_steps(f"image_classification/{name}", tmp_path / "run", data + small)
    assert losses[0] == pytest.approx(math.log(10), rel=0.1)


@pytest.mark.slow
def test_imagenet_mae(tmp_path):
    """Random pictures for ImageNet's; bfloat16, FSDP, crops and normalised targets as they stand in the config."""
    data = [*pictures(tmp_path, (32, 48, 3)), "data.batch_size=16"]
    # mae_vit_base_patch16 has 111,907,840 with its fixed positions of 197 tokens.
    assert parameters("pretrain_images/imagenet_mae", data) == 111_907_840 - 197 * (768 + 512)
    small = ["model.width=32", "model.num_layers=1", "model.num_heads=2"]
    small += ["model.decoder_width=16", "model.decoder_layers=1", "model.decoder_heads=2"]
    losses = two_steps("pretrain_images/imagenet_mae", tmp_path / "run", data + small)
    assert losses[0] == pytest.approx(1, rel=0.5)  # of targets whose variance is 1


@pytest.mark.slow
def test_fashion_googlenet(tmp_path):
    """Random pictures for Fashion-MNIST's; the auxiliary heads as they stand in the config."""
    data = [*pictures(tmp_path, (28, 28), 10), "data.batch_size=16"]
    two_steps("image_classification/fashion_googlenet", tmp_path / "run", data)

"""The PyTorch models train as ours do: the same losses from the same weights and batches."""

from functools import partial

import numpy as np
import pytest

from research.core import config
from research.util.errors import UserError
from tools.dev.bench import bench_cases, bench_steps
from tools.dev.bench.bench_ours import Ours

GPT = ("data.length=16", "data.batch_size=4", "model.num_layers=2", "model.width=32")
RESNET = bench_cases.CASES["resnet20"].overrides
IMAGENET = bench_cases.CASES["resnet50"]
MNIST = "image_classification/mnist_cnn"


def _pictures(*shape, classes=10, count=400):
    return partial(bench_cases.pictures, shape, classes, count)


# name -> a case; decays and norms so strong that losses show them
TWINS = {
    "gpt, adamw, decay": bench_cases.Case(
        "language_model/pydoc_char",
        (*GPT, "optim.warmup=0", "optim.weight_decay=50", "model.bias=true", "model.positions=learned"),
    ),
    "convnet, momentum, clipping": bench_cases.Case(
        MNIST, ("data.batch_size=8", "optim.clip_norm=0.5", "optim.peak_lr=0.5"), data=_pictures(8, 12, 1)
    ),
    "convnet, adam, L2": bench_cases.Case(
        "image_classification/digits",
        ("optim.name=adam", "optim.warmup=0", "optim.weight_decay=10", "data.batch_size=8"),
    ),
    "resnet, nesterov": bench_cases.Case(
        MNIST,
        (*RESNET, "model.depth=8", "model.shortcut=pad", "data.batch_size=8", "optim.name=nesterov"),
        data=_pictures(8, 8, 1),
    ),
    "resnet 18": bench_cases.Case(
        IMAGENET.config,
        (*IMAGENET.overrides, "data.batch_size=4", "model.depth=18", "optim.warmup=0", "optim.peak_lr=0.01"),
        data=_pictures(32, 32, 3, classes=5, count=100),
    ),
    "lstm, tied": bench_cases.Case(
        "language_model/wikitext2_lstm_cpu",
        (
            "data.source=pydoc", "data.carry=False", "data.vocab_size=50", "data.length=9", "data.batch_size=4",
            "model.width=16", "optim.warmup=0", "model.input_dropout=0.0", "model.output_dropout=0.0",
            "optim.peak_lr=0.1", "data.eval_batch_size=4",
        ),
    ),
    "lstm, a head of its own": bench_cases.Case(
        "language_model/keras_lstm", (
            "data.length=9", "data.batch_size=4", "model.width=16", "model.embedding_width=8", "optim.peak_lr=0.1",
        ),
    ),
    "bert": bench_cases.Case(
        "bert/pydoc",
        ("data.vocab_size=300", "data.length=32", "data.batch_size=8", "model.width=32", "optim.warmup=0"),
    ),
    "translation, smoothed": bench_cases.Case(
        "translation/multi30k_tiny",
        (
            "data.buckets=1", "data.length=12", "data.tokens=96", "data.eval_tokens=96", "optim.warmup=0",
            "model.encoder_layers=1", "model.decoder_layers=2", "model.width=32", "loss.smoothing=0.5",
        ),
        data=partial(bench_cases.sentences, 60, 300, (4, 11)),
    ),
}  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize("case", TWINS.values(), ids=TWINS)
def test_it_trains_as_ours_does(tmp_path, case):
    pytest.importorskip("torch")
    from tools.dev.bench.bench_torch import Torch

    bench_cases.prepare(case, tmp_path, [], threads=1)
    ours = Ours("ours", tmp_path).check()
    theirs = Torch("eager", tmp_path).check()
    assert theirs["parameters"] == ours["parameters"]
    assert len(ours["losses"]) == bench_steps.CHECKED
    # The first by the forward pass; the later ones by gradients and optimiser, too.
    np.testing.assert_allclose(theirs["losses"], ours["losses"], atol=1e-4)
    assert np.ptp(ours["losses"]) > 1e-2  # so that these would show a step not taken


@pytest.mark.parity
def test_a_step_that_is_not_taken_shows(tmp_path):
    """Label smoothing is not in the loss that is compared: the later losses must tell of it."""
    pytest.importorskip("torch")
    from tools.dev.bench.bench_torch import Torch

    bench_cases.prepare(TWINS["translation, smoothed"], tmp_path, [], threads=1)
    ours = Ours("ours", tmp_path).check()["losses"]
    theirs = Torch("eager", tmp_path)
    theirs._config["loss"]["smoothing"] = 0.0
    assert np.abs(np.subtract(theirs.check()["losses"], ours)).max() > 1e-2


@pytest.mark.parity
def test_a_bottleneck_resnet_has_our_parameters():
    pytest.importorskip("torch")
    import torch

    from tools.dev.bench import bench_torch_images, bench_torch_models

    with torch.device("meta"):
        model = bench_torch_images.ResNet((224, 224, 3), 1000)
    assert bench_torch_models.count(model) == 25_557_032  # torchvision's resnet50


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "override", "words"),
    [
        ("language_model/tiny", "model.positions=rotary", "positions = 'rotary' has no PyTorch"),
        ("language_model/tiny", "optim.ema=0.9", "optim.ema = 0.9 has no PyTorch twin"),
        ("language_model/tiny", "data.packing=True", "data.packing = True has no PyTorch twin"),
        ("language_model/tiny_lstm", "seed=0", "embedding_dropout = 0.1 has no PyTorch twin"),
        ("image_classification/tiny", "data.batch_size=8", "augment.crop = 1 has no PyTorch twin"),
        ("image_classification/digits", "model.name=lenet5", "model.name = 'lenet5'"),
        ("translation/tiny", "model.pre_norm=True", "pre_norm = True has no PyTorch twin"),
        ("gan/tiny", "seed=0", "of gan has no PyTorch twin"),
    ],
)
def test_what_no_pytorch_model_does_is_named(name, override, words):
    pytest.importorskip("torch")
    from tools.dev.bench import bench_torch_models

    batch = {"tokens" if name.startswith("language") else "image": np.zeros((1, 8, 8, 1))}
    with pytest.raises(UserError, match=words):
        bench_torch_models.make(config.plain(config.load(name, [override])), batch, {})


@pytest.mark.parity
def test_targets_that_do_not_count_are_left_out():
    pytest.importorskip("torch")
    from tools.dev.bench import bench_torch_step

    batch = {
        "targets": np.array([[5, 6], [7, 8]], np.int32),
        "targets_mask": np.array([[1, 0], [1, 1]], np.float32),
        "mask": np.array([1, 0], np.float32),
        "source_mask": np.array([[1, 0], [1, 1]], np.float32),
    }
    found = bench_torch_step.tensors(batch, "cpu")
    assert found["targets"].tolist() == [[5, -100], [-100, -100]]  # torch's ignore_index
    assert found["source_mask"].tolist() == [[True, False], [True, True]]
    assert found.keys() == {"targets", "source_mask"}

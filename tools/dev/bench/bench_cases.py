"""The cases of `almanac benchmark`: configs, with generated data if a config's own would have to be downloaded."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from research.core import config
from research.util.errors import UserError, nearest
from research.util.files import write_json, write_text

WriteData = Callable[[Path], list[str]]  # writes data into a folder -> the overrides that read it


@dataclasses.dataclass(frozen=True)
class Case:
    """A config, its overrides (`cpu`: those for a CPU only), and the function that writes its data, if it is generated."""

    config: str
    overrides: tuple[str, ...] = ()
    cpu: tuple[str, ...] = ()
    data: WriteData | None = None


# ---- Data


def pictures(shape: tuple[int, int, int], classes: int, count: int, folder: Path) -> list[str]:
    """Writes `count` random images u8[Y, X, C] with balanced classes -> the overrides that read them."""
    rng, path = np.random.default_rng(0), folder / "pictures.npz"
    images = rng.integers(0, 256, (count, *shape), np.uint8)
    np.savez(path, images=images, labels=rng.permutation(count) % classes)
    return ["data.source=arrays", f"data.path={path}"]


def words(vocabulary: int, count: int, folder: Path) -> list[str]:
    """Writes a text of `count` random words, for which a word tokenizer has exactly `vocabulary` tokens -> the overrides."""
    path = folder / "words.txt"
    ids = np.arange(count) % (vocabulary + 1000)  # so that the most frequent words fill the vocabulary
    text = " ".join(f"w{i}" for i in np.random.default_rng(0).permutation(ids))
    write_text(path, text)
    return ["data.source=files", f"data.path={path}", "data.tokenizer=word", f"data.vocab_size={vocabulary}"]


def sentences(vocabulary: int, lines: int, lengths: tuple[int, int], folder: Path) -> list[str]:
    """Writes pairs of sentences with `lengths` (min, max) random words and a joint vocabulary of exactly `vocabulary` tokens
    -> the overrides."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(lengths[0], lengths[1] + 1, (2, lines))
    drawn = rng.permutation(np.arange(sizes.sum()) % (vocabulary + 1000))
    sides = np.split(drawn, [sizes[0].sum()])
    for name, side, side_sizes in zip(("source", "target"), sides, sizes, strict=True):
        rows = np.split(side, np.cumsum(side_sizes)[:-1])
        write_text(folder / f"pairs.{name}", "\n".join(" ".join(f"w{i}" for i in row) for row in rows) + "\n")
    return [
        "data.source=files", f"data.path={folder / 'pairs'}", "data.pair=source-target", "data.tokenizer=word",
        f"data.vocab_size={vocabulary}",
    ]  # fmt: skip


# ---- Cases

_LARGE = ("language_model/shakespeare_char", ("data.source=pydoc",), ("data.batch_size=8",))
_RESNET20 = ("model.name=resnet", "model.depth=20", "model.form=cifar", "optim.weight_decay=1e-4")
_LSTM_DROPOUTS = ("embedding", "input", "recurrent", "output")  # off, because torch's LSTM has other dropout
_DIGITS = partial(pictures, (28, 28, 1), 10, 10_000)
_MULTI30K_WORDS = 10_000  # about the size of the published joint vocabulary
CASES = {
    "gpt": Case("language_model/pydoc_char", ("model.positions=learned",)),  # as in nanoGPT
    "gpt-large": Case(_LARGE[0], (*_LARGE[1], "dtype=float32"), _LARGE[2]),
    "gpt-large-bfloat16": Case(*_LARGE),
    "convnet": Case("image_classification/mnist_cnn", data=_DIGITS),
    "resnet20": Case("image_classification/mnist_cnn", _RESNET20, data=_DIGITS),
    "lstm": Case(
        "language_model/wikitext2_lstm_variational",
        # With the recipe's rate of 35, rounding errors would be visible in the third loss.
        ("data.source=pydoc", "data.carry=False", "optim.peak_lr=1.0", *(f"model.{name}_dropout=0.0" for name in _LSTM_DROPOUTS)),
    ),
    "bert-tiny": Case(
        "bert/wikitext2_tiny", ("data.source=pydoc", "data.tokenizer=bpe", "data.vocab_size=8192")
    ),
    # One bucket, so that all steps have the same shape, as in PyTorch.
    "translation-tiny": Case(
        "translation/multi30k_tiny",
        ("data.buckets=1", "data.length=32"),
        ("data.tokens=2048",),
        partial(sentences, _MULTI30K_WORDS, 20_000, (20, 31)),
    ),
    "gpt2-124m": Case(
        "language_model/gpt2_124m",
        (
            "data.batch_size=16", "data.eval_batch_size=16", "optim.accumulate=1", "model.scan=False",
            "model.remat=False", "rules=",
        ),
        data=partial(words, 50_304, 1_000_000),  # GPT-2's 50,257 rounded up to a multiple of 64, in both
    ),
    "resnet50": Case(
        "image_classification/resnet50_imagenet",
        (
            "data.batch_size=128", "data.eval_batch_size=128", "augment.crop=0", "augment.flip=0.0",
            "augment.smoothing=0.0", "augment.mean=(0.0, 0.0, 0.0)", "augment.std=(1.0, 1.0, 1.0)",
            "optim.warmup=500 steps", "rules=", "data.size=None",
            "data.valid_fraction=0.34", "data.test_fraction=0.0",  # one of the three images of a class
        ),
        data=partial(pictures, (224, 224, 3), 1000, 3_000),
    ),
}  # fmt: skip
GPU_ONLY = ("gpt2-124m", "resnet50")  # not among the default cases; too large for a CPU
DEFAULT = tuple(name for name in CASES if name not in GPU_ONLY)


def find(name: str, others: Sequence[str] = ()) -> Case:
    """A case, or any config by its name. Raises UserError if there is neither; `others` are further names to suggest."""
    case = CASES.get(name) or Case(name)
    if case.config not in config.names():
        raise UserError(f"no case or config is named {name!r}{nearest(name, [*CASES, *others])}")
    return case


def prepare(case: Case, folder: Path, changes: Sequence[str], threads: int) -> None:
    """Writes the files for the processes to the folder: case.json, and generated data."""
    overrides = [*case.overrides, *(case.data(folder) if case.data else ())]
    write_json(
        folder / "case.json",
        {
            "config": case.config,
            "overrides": overrides,
            "cpu": list(case.cpu),
            "changes": list(changes),
            "threads": threads,
        },
    )

"""What a request leaves for the monitor: a few numbers about its inputs and the model's outputs, not the inputs themselves.

A signal is a name, such as "image brightness", and numbers f32[B, k] of B rows. `STATISTIC` says how a window of them is compared
with the reference, by the name's last word.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from research.core.experiment import Codec

BUCKETS = 32  # of token ids, and of classes: an id falls into the bucket of its hash
COLUMNS = 64  # of a table, at most
PROJECTED = 8  # numbers that stand for a picture
TEXTS = ("tokens", "source", "question", "passage")  # inputs that hold token ids
STATISTIC = {  # the last word of a signal's name -> what compares it
    "length": "ks", "unknown": "ks", "histogram": "psi",
    "brightness": "ks", "contrast": "ks", "skewness": "ks", "sharpness": "ks", "projection": "mmd",
    "columns": "mmd", "column": "ks",
    "confidence": "ks", "class": "psi",
}  # fmt: skip


def kinds(codec: Codec) -> dict[str, str]:
    """A model's inputs -> "text", "picture" or "table"; one that is none of these is left out."""
    found = {}
    for name, (shape, dtype) in codec.inputs.items():
        if name in TEXTS and len(shape) == 2:
            found[name] = "text"
        elif dtype.startswith("float") and not name.endswith("mask") and len(shape) in (2, 4):
            found[name] = "table" if len(shape) == 2 else "picture"
    return found


def of_inputs(codec: Codec, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A model's inputs {name: [B, ...]} -> the signals of those that have a kind."""
    found: dict[str, np.ndarray] = {}
    for name, kind in kinds(codec).items():
        x = np.asarray(inputs[name])
        if kind == "text":
            found |= dict(_text(name, x, _lengths(name, x, inputs), _unknown(codec)))
        else:
            found |= dict(_picture(name, x) if kind == "picture" else _table(name, x))
    return found


def of_outputs(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A classifier's outputs, of which "probabilities" f[B, N] are used -> confidence and class; of another model none."""
    p = np.asarray(outputs.get("probabilities", ()))
    if p.ndim != 2:
        return {}
    choice = p.argmax(-1)
    counts = np.eye(min(BUCKETS, p.shape[1]), dtype=np.float32)[_bucket(choice, min(BUCKETS, p.shape[1]))]
    return {"confidence": p.max(-1, keepdims=True).astype(np.float32), "class": counts}


def _text(name: str, tokens: np.ndarray, lengths: np.ndarray, unknown: int | None) -> Iterator[tuple[str, np.ndarray]]:
    """The length in tokens, the share of unknown ones, and how many fell into each bucket."""
    real = np.arange(tokens.shape[1]) < lengths[:, None]
    yield f"{name} length", lengths[:, None].astype(np.float32)
    if unknown is not None:
        share = ((tokens == unknown) & real).sum(1) / np.maximum(lengths, 1)
        yield f"{name} unknown", share[:, None].astype(np.float32)
    counts = np.zeros((len(tokens), BUCKETS), np.float32)
    rows = np.broadcast_to(np.arange(len(tokens))[:, None], tokens.shape)
    np.add.at(counts, (rows[real], _bucket(tokens, BUCKETS)[real]), 1)
    yield f"{name} histogram", counts


def _picture(name: str, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Moments of a picture's values, the mean difference of neighbours, and a random projection (Johnson & Lindenstrauss)."""
    flat = x.reshape(len(x), -1).astype(np.float32)
    mean, std = flat.mean(1), flat.std(1)
    yield f"{name} brightness", mean[:, None]
    yield f"{name} contrast", std[:, None]
    yield f"{name} skewness", (((flat - mean[:, None]) ** 3).mean(1) / np.maximum(std, 1e-6) ** 3)[:, None]
    steps = np.abs(np.diff(x, axis=1)).mean((1, 2, 3)) + np.abs(np.diff(x, axis=2)).mean((1, 2, 3))
    yield f"{name} sharpness", steps[:, None].astype(np.float32)
    yield f"{name} projection", flat @ _projection(flat.shape[1])


def _table(name: str, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    columns = x[:, :COLUMNS].astype(np.float32)
    yield f"{name} columns", columns
    for i in range(columns.shape[1]):
        yield f"{name} {i} column", columns[:, i : i + 1]


def _lengths(name: str, x: np.ndarray, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """i[B]: of each row's tokens, without padding where an input tells it."""
    for mask in (f"{name}_mask", f"{name.removesuffix('s')}_mask"):
        if mask in inputs:
            return np.asarray(inputs[mask]).sum(1).astype(np.int64)
    return np.asarray(inputs.get("length", np.full(len(x), x.shape[1])))


def _unknown(codec: Any) -> int | None:
    """The id of an unknown word, if the codec's tokenizer has one."""
    holder = getattr(codec, "encoder", codec)
    return getattr(getattr(holder, "tokenizer", None), "special", {}).get("unk")


def _bucket(ids: np.ndarray, count: int) -> np.ndarray:
    """Ids below `count` are their own bucket; Knuth's multiplicative hash spreads the rest."""
    hashed = ((ids.astype(np.uint64) * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)) >> np.uint64(16)
    return np.where(ids < count, ids, (hashed % np.uint64(count)).astype(ids.dtype))


@functools.lru_cache
def _projection(size: int) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((size, PROJECTED)) / np.sqrt(size)).astype(np.float32)

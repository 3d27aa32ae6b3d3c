"""Text as tokens: corpora, windows for training and evaluation, and what to beat.

Config: source (`SOURCES`), tokenizer (`tokenizers.TOKENIZERS`); for `files` also path and, where
wanted, valid_fraction (0.1) and text_key ("text").
"""

import collections
import dataclasses
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np

from research.data import records, tokenizers, user_files
from research.host.errors import UserError, nearest

Pieces = tuple[str, str, list[str]]  # training text, validation text, report

SOURCES: dict[str, Callable[[Mapping[str, Any]], Pieces]] = {}
BREAK = "\n\n"  # between documents
SUFFIXES = (".txt", ".md", ".jsonl")


@dataclasses.dataclass(frozen=True)
class Text:
    """Tokens of a corpus: `train` and `valid`, smallest unsigned dtype; their meaning."""

    train: np.ndarray
    valid: np.ndarray
    tokenizer: tokenizers.Tokenizer
    report: list[str]


def load(cfg: Mapping[str, Any]) -> Text:
    """The corpus `cfg["source"]` in tokens of `cfg["tokenizer"]`.

    The characters of both parts make the vocabulary of `char`, as in nanoGPT: a validation text
    with a character of its own would otherwise have no likelihood.
    """
    source = cfg["source"]
    if source not in SOURCES:
        raise UserError(f"no text source {source!r}{nearest(source, SOURCES)}")
    train, valid, report = SOURCES[source](cfg)
    if not train or not valid:
        raise UserError(f"{source}: {len(train):,} characters to train, {len(valid):,} to validate")
    tokenizer = tokenizers.make(cfg["tokenizer"], train + valid)
    dtype = np.min_scalar_type(tokenizer.size - 1)
    parts = [tokenizer.encode(part).astype(dtype) for part in (train, valid)]
    report += [
        f"split    {len(train):,} characters to train, {len(valid):,} to validate",
        f"tokens   {cfg['tokenizer']}, vocabulary {tokenizer.size:,}: "
        f"{len(parts[0]):,} to train, {len(parts[1]):,} to validate ({dtype})",
    ]
    return Text(parts[0], parts[1], tokenizer, report)


def _source(function: Callable[[Mapping[str, Any]], Pieces]) -> Callable:
    SOURCES[function.__name__] = function
    return function


@_source
def pydoc(cfg: Mapping[str, Any]) -> Pieces:
    """Python's language reference as CPython carries it, topics in the order of their names.

    The last 10 % of the characters are for validation. Differs a little between Python versions.
    """
    text = BREAK.join(topics[name] for name in sorted(topics))
    version = platform.python_version()
    return *_cut(text, 0.1), [f"source   pydoc: {len(topics)} topics of Python {version}"]


@_source
def tiny_shakespeare(cfg: Mapping[str, Any]) -> Pieces:
    """Karpathy's 1,115,394 characters; nanoGPT's split: the last 10 % are for validation."""
    splits = ("train", "validation", "test")
    text = "".join(records.load("tiny_shakespeare", s)[0]["text"].decode("utf-8") for s in splits)
    return *_cut(text, 0.1), [f"source   tiny_shakespeare: {len(text):,} characters"]


@_source
def files(cfg: Mapping[str, Any]) -> Pieces:
    """The user's own UTF-8 text: a file, or the .txt, .md and .jsonl files of a folder, by name.

    Hidden files and folders are left out. A .jsonl file has an object a line, its text under
    `text_key`. The last `valid_fraction` of every file (characters, or lines of a .jsonl) is for
    validation: a file added later changes the split of no other.
    """
    root = user_files.root(cfg)
    fraction = user_files.option(cfg, "valid_fraction", 0.1)
    if not 0 < fraction < 1:
        raise UserError(f"data.valid_fraction = {fraction}: above 0 and below 1")
    paths = [root] if root.is_file() else list(user_files.visible(root))
    others = collections.Counter(p.suffix for p in paths if p != root and p.suffix not in SUFFIXES)
    train, valid, skipped, used = [], [], [], 0
    for path in paths:
        if path != root and path.suffix not in SUFFIXES:
            continue
        name = path.relative_to(root).as_posix() if path != root else path.name
        try:
            if path.suffix == ".jsonl":
                rows, faults = _rows(path, user_files.option(cfg, "text_key", "text"))
                skipped += [f"{name} {fault}" for fault in faults]
                keep = len(rows) - round(len(rows) * fraction)
                parts = BREAK.join(rows[:keep]), BREAK.join(rows[keep:])
            else:
                parts = _cut(_read(path), fraction)
        except ValueError as error:
            skipped.append(f"{name}: {error}")
            continue
        used += 1
        train.append(parts[0])
        valid.append(parts[1])
    if not used:
        why = skipped[0] if skipped else f"no {' '.join(SUFFIXES)} file"
        raise UserError(f"data.path = {root}: no text found ({why})")
    report = [f"source   {root}: {used} of {len(paths)} files"]
    if others:
        kinds = ", ".join(f"{n} {kind or 'without suffix'}" for kind, n in others.most_common(6))
        report.append(f"ignored  {others.total()} files that are not {' '.join(SUFFIXES)}: {kinds}")
    report += user_files.listed("skipped ", skipped)
    return BREAK.join(filter(None, train)), BREAK.join(filter(None, valid)), report


def _cut(text: str, fraction: float) -> tuple[str, str]:
    at = int(len(text) * (1 - fraction))
    return text[:at], text[at:]


def _read(path: Path) -> str:
    """A file's text; ValueError says what it is instead."""
    raw = path.read_bytes()
    if (at := raw.find(b"\0")) >= 0:
        raise ValueError(f"binary, or not UTF-8 (a zero byte at {at:,})")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start + 3 * raw.startswith(b"\xef\xbb\xbf")  # the codec counts after the mark
        raise ValueError(f"not UTF-8 (byte 0x{raw[at]:02x} at {at:,})") from None
    if not text.strip():
        raise ValueError("empty")
    return text


def _rows(path: Path, key: str) -> tuple[list[str], list[str]]:
    """The texts of a .jsonl file, and what is wrong with its other lines."""
    rows, faults = [], []
    for number, line in enumerate(_read(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)[key]
            row.encode("utf-8")  # JSON can spell half a surrogate pair
            if row.strip():
                rows.append(row)
            else:
                faults.append(f"line {number}: empty")
        except UnicodeEncodeError:
            faults.append(f"line {number}: half a surrogate pair")
        except json.JSONDecodeError as error:
            faults.append(f"line {number}: not JSON ({error.msg})")
        except (KeyError, TypeError, AttributeError, IndexError):
            faults.append(f"line {number}: no text under {key!r}")
    if not rows:
        raise ValueError(faults[0] if faults else "empty")
    return rows, faults


class Windows:
    """Windows of `length` tokens and their targets, one on, as a random-access source.

    With a `seed`, for training: the windows of an epoch lie end to end from a random start, a pure
    function of (seed, epoch), so that every token is a target about once an epoch.
    `{"tokens": i32[n, length], "targets": i32[n, length]}`.

    Without one, for evaluation: every token but the first is a target exactly once. The last window
    is filled up, and `"token_mask"` f32[n, length] tells the targets that count.
    """

    def __init__(self, tokens: np.ndarray, length: int, seed: int | None = None):
        least = 2 if seed is None else length + 1
        if length < 1 or len(tokens) < least:
            raise UserError(
                f"data.length = {length} needs a text of {max(least, 2):,} tokens, "
                f"this one has {len(tokens):,}; shorten data.length or add text"
            )
        self.tokens, self.length, self.seed = tokens, length, seed
        targets = len(tokens) - 1
        # In training as many as fit at every shift; what is left at the ends has other epochs.
        self._count = -(-targets // length) if seed is None else max(1, len(tokens) // length - 1)

    def __len__(self) -> int:
        return self._count

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        offsets = np.asarray(indices, np.int64)[:, None] * self.length + np.arange(self.length + 1)
        if self.seed is not None:
            return _shifted(self.tokens[offsets + self._shift(self.seed, epoch)])
        inside = offsets < len(self.tokens)
        found = np.where(inside, self.tokens[np.where(inside, offsets, 0)], 0)
        return {**_shifted(found), "token_mask": inside[:, 1:].astype(np.float32)}

    def _shift(self, seed: int, epoch: int) -> int:
        room = len(self.tokens) - self._count * self.length
        # The tag keeps it apart from the permutation, which is drawn from (seed, epoch).
        rng = np.random.default_rng((seed, epoch, 1))
        return int(rng.integers(min(room, self.length)))


def _shifted(windows: np.ndarray) -> dict[str, np.ndarray]:
    windows = windows.astype(np.int32)
    return {"tokens": windows[:, :-1], "targets": windows[:, 1:]}


def baselines(train: np.ndarray, valid: np.ndarray, size: int) -> dict[str, float]:
    """Cross-entropy (nats a token) of `valid[1:]` under counts of `train`, `size` tokens V.

    unigram  p(b) = (n(b) + 1) / (N + V), add-one
    bigram   p(b | a) = (n(ab) + d(a) p(b)) / (n(a) + d(a)), d(a) the number of different tokens
             seen after a: Witten and Bell (1991), method C, interpolated with the unigram

    Memory goes with the tokens, never with V squared.
    """
    first, second = (part.astype(np.int64) for part in (valid[:-1], valid[1:]))
    unigram = (np.bincount(train, minlength=size) + 1) / (len(train) + size)
    pairs, counts = np.unique(train[:-1].astype(np.int64) * size + train[1:], return_counts=True)
    followed = np.bincount(train[:-1], minlength=size)[first]
    distinct = np.bincount(pairs // size, minlength=size)[first]
    wanted = first * size + second
    places = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    seen = np.where(pairs[places] == wanted, counts[places], 0)
    p = unigram[second]
    mixed = np.where(followed > 0, (seen + distinct * p) / np.maximum(followed + distinct, 1), p)
    return {"unigram": float(-np.log(p).mean()), "bigram": float(-np.log(mixed).mean())}

"""Language modelling: a corpus in tokens, as windows, contiguous rows or packed documents; n-gram baselines.

Config: the keys of `corpora`, tokenizer (`tokenizers.TOKENIZERS`) and, optionally,
vocab_size, min_count and lowercase; length (tokens of a window, T), stride, packing, carry, batch_size, eval_batch_size.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.core.experiment import Baseline, Codec, Dataset
from research.data import codecs, further_sets, tokenizers, top, user_files
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.text import contiguous, corpora, packed
from research.util.errors import UserError

TO = {"train": "to train", "valid": "to validate", "test": "to test"}


@dataclasses.dataclass(frozen=True)
class Text:
    """Tokens of a corpus, [N] of the smallest unsigned dtype: `train`, `valid` and, if there is one, `test`."""

    train: np.ndarray
    valid: np.ndarray
    tokenizer: tokenizers.Tokenizer
    report: list[str]
    corpus: corpora.Corpus  # the documents
    test: np.ndarray | None = None


def make_tokenizer(cfg: Mapping[str, Any], corpus: corpora.Corpus, special: Sequence[str] = ()) -> tokenizers.Tokenizer:
    """The tokenizer `cfg["tokenizer"]`, trained on the training text only; `special`: the tokens that it needs.

    Except `char` without special tokens, whose vocabulary has the characters of all parts, as in nanoGPT: a validation text
    with an unknown character would otherwise have no likelihood.
    """
    options = {key: user_files.option(cfg, key, None) for key in ("vocab_size", "min_count", "lowercase")}
    return tokenizers.make(
        cfg["tokenizer"], corpus.text("train"), corpus.text("valid") + corpus.text("test"), special=special, **options
    )


class LanguageModelling(Dataset):
    """Batches {"tokens", "targets": i32[B, T]} of a text, and the further keys of its kind of window (see `load`)."""

    def __init__(
        self, text: Text, train: TrainBatches, evals: Mapping[str, EvalBatches], length: int, report: list[str],
        held_out: Callable[[Sequence[str], np.ndarray], Any] | None = None,
    ):  # fmt: skip
        """`held_out` makes a source of documents and of their tokens, i[N], as those of `evals` are, for `eval_batches`."""
        self._held_out = held_out
        self.text, self.tokenizer, self.tokenizers = text, text.tokenizer, (text.tokenizer,)
        self.train, self.evals, self.report, self.length = train, evals, report, length
        self.codec = NextToken(text.tokenizer, length)

    @property
    def opening(self) -> str:
        """A text to continue: the first token of the validation text."""
        return self.tokenizer.decode(self.text.valid[:1])

    def baselines(self) -> Mapping[str, Baseline]:
        values = baselines(self.text.train, self.text.valid, self.tokenizer.size)
        return {"valid/loss": Baseline(values, "nats/token")}

    def eval_batches(self, cfg: Mapping[str, Any]) -> EvalBatches:
        corpus, part = corpora.load(cfg), cfg["part"]
        self.report = [*self.report, *corpus.report]
        further_sets.choose_parts([name for name in ("train", "valid", "test") if getattr(corpus, name)], part)
        documents = corpus.documents if part is None else getattr(corpus, part)
        tokens = self.tokenizer.encode(corpus.between.join(documents))
        assert self._held_out is not None
        return EvalBatches(self._held_out(documents, tokens), next(iter(self.evals.values())).batch_size)


@codecs.register("next_token")
@dataclasses.dataclass(frozen=True)
class NextToken(Codec):
    """A text, of which the last `length` tokens are read <-> the next token."""

    tokenizer: tokenizers.Tokenizer
    length: int

    takes = "text"

    @property
    def inputs(self) -> dict[str, tuple]:
        return {"tokens": (("b", "t"), "int32")}

    @property
    def constraints(self) -> tuple[str]:
        return (f"t <= {self.length}",)

    def encode(self, value: str) -> dict[str, np.ndarray]:
        """A text -> its last tokens, after those that its tokenizer's file puts before it: i32[1, T], at most `length`.

        Raises UserError if it has none.
        """
        if not len(self.tokenizer.encode(value)):
            raise UserError("the text is empty: there is nothing to predict from")
        tokens, before = tokenizers.opened(self.tokenizer, value), len(getattr(self.tokenizer, "prefix", ()))
        cut = len(tokens) - self.length
        if cut > 0 and before < self.length:
            tokens = np.concatenate([tokens[:before], tokens[before + cut :]])
        return {"tokens": tokens[None, -self.length :].astype(np.int32)}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Logits f32[1, T, V] -> the top five next tokens with their probabilities."""
        return {"next": top.of_logits(outputs["logits"][0, -1], lambda i: self.tokenizer.decode(np.array([i])))}

    def read(self, file: Path) -> str:
        return user_files.read(file)


def load(cfg: Mapping[str, Any], seed: int) -> LanguageModelling:
    """The data set of a config's `data` group.

    Windows of running text by default. With `packing`, windows of packed documents ("segment_ids", "position_ids": i32[B, T]).
    With `carry`, row r of a batch is contiguous with row r of the batch before ("starts": bool[B]). With `stride`, windows
    overlap, and only the token after a window is a target ("targets": i32[B, 1]).
    """
    length, (rows, eval_rows) = cfg["length"], (cfg["batch_size"], cfg["eval_batch_size"])
    stride = user_files.option(cfg, "stride", None)
    if stride is not None and (cfg["packing"] or cfg["carry"]):
        other = "packing" if cfg["packing"] else "carry"
        raise UserError(f"data.stride = {stride}: windows of data.{other} do not overlap; leave one of them None")
    text = load_text(cfg)
    report = [*text.report]
    if cfg["packing"]:
        train: Any = packed.Packed(packed.encode(text.corpus.train, text.tokenizer), length)
    elif cfg["carry"]:
        train = contiguous.Rows(text.train, length, rows)
    elif stride is not None:
        train = NextTokens(text.train, length, stride)
    else:
        train = Windows(text.train, length, seed)

    def held_out(documents: Sequence[str], tokens: np.ndarray) -> Any:
        if cfg["packing"]:
            return packed.Packed(packed.encode(documents, text.tokenizer), length)
        if cfg["carry"]:
            return contiguous.Rows(tokens, length, eval_rows, every=True, key="data.eval_batch_size")
        return Windows(tokens, length) if stride is None else NextTokens(tokens, length, stride)

    parts = {name: tokens for name, tokens in (("valid", text.valid), ("test", text.test)) if tokens is not None}
    sources = {name: held_out(getattr(text.corpus, name), tokens) for name, tokens in parts.items()}
    if cfg["packing"]:
        report += [f"packing  {name}: {source.report}" for name, source in {"train": train, **sources}.items()]
    train_batches = TrainBatches(train, rows, seed, shuffle=not cfg["carry"])
    evals = {name: EvalBatches(source, eval_rows) for name, source in sources.items()}
    return LanguageModelling(text, train_batches, evals, length, report, held_out)


def load_text(cfg: Mapping[str, Any]) -> Text:
    """The corpus `cfg["source"]` in tokens of `cfg["tokenizer"]`."""
    corpus = corpora.load(cfg)
    tokenizer = make_tokenizer(cfg, corpus)
    dtype = np.min_scalar_type(tokenizer.size - 1)
    texts = {part: corpus.text(part) for part in ("train", "valid", "test") if getattr(corpus, part) is not None}
    parts = {part: tokenizer.encode(text).astype(dtype) for part, text in texts.items()}
    report = [
        *corpus.report,
        f"split    {_sizes(texts, ' characters')}",
        f"tokens   {cfg['tokenizer']}, vocabulary {tokenizer.size:,}: {_sizes(parts)} ({dtype})",
    ]
    return Text(parts["train"], parts["valid"], tokenizer, report, corpus, parts.get("test"))


def _sizes(parts: Mapping[str, Any], unit: str = "") -> str:
    units = {"train": unit}
    return ", ".join(f"{len(value):,}{units.get(part, '')} {TO[part]}" for part, value in parts.items())


class Windows:
    """Windows of `length` tokens, with the next tokens as targets, as a random-access source.

    With a `seed`, for training: the windows of an epoch are adjacent, from a random offset that is a pure
    function of (seed, epoch), so that every token is a target about once per epoch.
    `{"tokens": i32[n, length], "targets": i32[n, length]}`.

    Without one, for evaluation: every token but the first is a target exactly once. The last window
    is padded, and `"token_mask"` f32[n, length] is 0 at the padding. Raises UserError if the text is too short.

    >>> batch = Windows(np.arange(5), length=3).gather(np.array([1]))
    >>> [batch[name].tolist() for name in ("tokens", "targets", "token_mask")]
    [[[3, 4, 0]], [[4, 0, 0]], [[1.0, 0.0, 0.0]]]
    """

    def __init__(self, tokens: np.ndarray, length: int, seed: int | None = None):
        if length < 1:
            raise UserError(f"data.length = {length}: at least 1")
        least = 2 if seed is None else length + 1
        if len(tokens) < least:
            raise UserError(
                f"data.length = {length} needs a text of {least:,} tokens, "
                f"this one has {len(tokens):,}; shorten data.length or add text"
            )
        self.tokens, self.length, self.seed = tokens, length, seed
        targets = len(tokens) - 1
        # In training as many as fit at every offset; tokens that an epoch leaves out are in others.
        self._count = -(-targets // length) if seed is None else max(1, len(tokens) // length - 1)

    def __len__(self) -> int:
        return self._count

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        offsets = np.asarray(indices, np.int64)[:, None] * self.length + np.arange(self.length + 1)
        if self.seed is not None:
            return _inputs_and_targets(self.tokens[offsets + self._shift(self.seed, epoch)])
        inside = offsets < len(self.tokens)
        windows = np.where(inside, self.tokens[np.where(inside, offsets, 0)], 0)
        return {**_inputs_and_targets(windows), "token_mask": inside[:, 1:].astype(np.float32)}

    def _shift(self, seed: int, epoch: int) -> int:
        room = len(self.tokens) - self._count * self.length
        # The tag 1: a random stream apart from the permutation's (seed, epoch).
        rng = np.random.default_rng((seed, epoch, 1))
        return int(rng.integers(min(room, self.length)))


class NextTokens:
    """Windows of `length` tokens that begin every `stride` tokens, each with the one token after it as target.

    {"tokens": i32[n, length], "targets": i32[n, 1], "token_mask": f32[n, 1], all 1}. Raises UserError if a value is below 1
    or the text too short.

    >>> batch = NextTokens(np.arange(6), length=3, stride=2).gather(np.array([0, 1]))
    >>> batch["tokens"].tolist(), batch["targets"].tolist()
    ([[0, 1, 2], [2, 3, 4]], [[3], [5]])
    """

    def __init__(self, tokens: np.ndarray, length: int, stride: int):
        for key, value in (("length", length), ("stride", stride)):
            if not isinstance(value, int) or value < 1:
                raise UserError(f"data.{key} = {value!r}: a whole number of at least 1")
        if len(tokens) <= length:
            raise UserError(
                f"data.length = {length} needs a text of {length + 1:,} tokens, "
                f"this one has {len(tokens):,}; shorten data.length or add text"
            )
        self.tokens, self.length, self.stride = tokens, length, stride

    def __len__(self) -> int:
        return (len(self.tokens) - self.length - 1) // self.stride + 1

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        offsets = np.asarray(indices, np.int64)[:, None] * self.stride + np.arange(self.length + 1)
        windows = self.tokens[offsets].astype(np.int32)
        ones = np.ones((len(windows), 1), np.float32)
        return {"tokens": windows[:, :-1], "targets": windows[:, -1:], "token_mask": ones}


def _inputs_and_targets(windows: np.ndarray) -> dict[str, np.ndarray]:
    windows = windows.astype(np.int32)
    return {"tokens": windows[:, :-1], "targets": windows[:, 1:]}


def baselines(train: np.ndarray, valid: np.ndarray, size: int) -> dict[str, float]:
    """Cross-entropy (nats per token) of `valid[1:]` under n-gram counts of `train`; `size` is the vocabulary's, V.

    unigram  p(b) = (n(b) + 1) / (N + V), add-one
    bigram   p(b | a) = (n(ab) + d(a) p(b)) / (n(a) + d(a)), d(a) the number of different tokens
             after a in `train`: Witten and Bell (1991), method C, interpolated with the unigram

    Memory is linear in the number of tokens, not in V squared.
    """
    return ngrams(train, (train[:-1], train[1:]), (valid[:-1], valid[1:]), size)


Pairs = tuple[np.ndarray, np.ndarray]  # tokens, and the tokens that follow them: i[N] each


def ngrams(counted: np.ndarray, train: Pairs, valid: Pairs, size: int) -> dict[str, float]:
    """As `baselines`, of the second tokens of `valid`; the unigram's counts are of `counted` i[N]."""
    first, second = (part.astype(np.int64) for part in valid)
    unigram = (np.bincount(counted, minlength=size) + 1) / (len(counted) + size)
    pairs, counts = np.unique(train[0].astype(np.int64) * size + train[1], return_counts=True)
    followed = np.bincount(train[0], minlength=size)[first]
    distinct = np.bincount(pairs // size, minlength=size)[first]
    queries = first * size + second
    indices = np.minimum(np.searchsorted(pairs, queries), len(pairs) - 1)
    pair_counts = np.where(pairs[indices] == queries, counts[indices], 0)
    p = unigram[second]
    mixed = np.where(followed > 0, (pair_counts + distinct * p) / np.maximum(followed + distinct, 1), p)
    return {"unigram": float(-np.log(p).mean()), "bigram": float(-np.log(mixed).mean())}

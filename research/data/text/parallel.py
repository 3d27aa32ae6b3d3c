"""Parallel text as tokens, and lines as a model takes them.

Config, beside that of `parallel_corpora`: tokenizer with its options (vocab_size, min_count), learnt from the training part;
length, the most tokens of a line with its end. A source reads `tokens <eos>`, a target is said after `<bos>` and ends in `<eos>`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from research.data import tokenizers
from research.data.buckets import Ragged
from research.data.text import parallel_corpora
from research.data.text.parallel_corpora import Corpus, Lines
from research.util.errors import UserError

OPTIONS = ("vocab_size", "min_count")


@dataclasses.dataclass(frozen=True)
class Parallel:
    """`parts` in tokens: {"source", "tokens", "targets": i32[n, L]}, each with its mask; `lines` as text.

    In the training part are the lines that fit; in the others all, cut where they are longer than `length`.
    """

    parts: Mapping[str, Ragged]
    corpus: Corpus
    source: tokenizers.Tokenizer
    target: tokenizers.Tokenizer
    length: int
    report: list[str]

    @property
    def eos(self) -> int:
        return self.target.special["eos"]

    @property
    def bos(self) -> int:
        return self.target.special["bos"]

    def encode(self, lines: Sequence[str]) -> dict[str, np.ndarray]:
        """Lines as the corpus's `source` has them -> {"source": i32[n, L], "source_mask": f32[n, L]}; too long ones are cut."""
        ids = [_ended(self.source, line, self.length) for line in lines]
        return Ragged({"source": ids}).gather(np.arange(len(ids)))

    def text(self, ids: np.ndarray) -> str:
        """Target tokens i32[T] up to the first end -> words."""
        ends = np.flatnonzero(ids == self.eos)
        return self.corpus.words(self.target.decode(ids[: ends[0]] if len(ends) else ids))


def load(cfg: Mapping[str, Any], joint: bool) -> Parallel:
    """The corpus of `cfg` in tokens; `joint`: of one vocabulary, learnt from both sides."""
    if cfg["length"] < 2:
        raise UserError(f"data.length = {cfg['length']}: at least 2, a token and the end")
    corpus = parallel_corpora.load(cfg)
    train = corpus.parts["train"]
    options: dict[str, Any] = {key: cfg[key] for key in OPTIONS}
    if cfg["tokenizer"] == "word":
        options["special"] = ("bos", "eos")
    sides = [train.source, train.target]
    texts = ["\n".join([*train.source, *train.target])] if joint else ["\n".join(side) for side in sides]
    made = [tokenizers.make(cfg["tokenizer"], text, **options) for text in texts]
    for one in made:
        if not {"bos", "eos"} <= one.special.keys():
            raise UserError(f"data.tokenizer = {cfg['tokenizer']!r} has no <bos> and <eos>; take word, bpe or unigram")
    source, target = made[0], made[-1]
    parts, report = {}, [*corpus.report, *_vocabularies(cfg["tokenizer"], made)]
    for name, lines in corpus.parts.items():
        parts[name], told = _tokens(name, lines, source, target, cfg["length"])
        report += told
    return Parallel(parts, corpus, source, target, cfg["length"], report)


def _vocabularies(name: str, made: list[tokenizers.Tokenizer]) -> list[str]:
    sizes = (
        f"joint vocabulary {made[0].size:,}" if len(made) == 1 else f"vocabularies {made[0].size:,}, {made[1].size:,}"
    )
    return [f"tokens   {name}, {sizes}"]


def _ended(tokenizer: tokenizers.Tokenizer, line: str, length: int) -> np.ndarray:
    return np.append(tokenizer.encode(line)[: length - 1], np.int32(tokenizer.special["eos"]))


def _tokens(
    part: str, lines: Lines, source: tokenizers.Tokenizer, target: tokenizers.Tokenizer, length: int
) -> tuple[Ragged, list[str]]:
    """A part in tokens, and what is to be told of it."""
    pairs = [(source.encode(a), target.encode(b)) for a, b in zip(lines.source, lines.target, strict=True)]
    long = sum(max(map(len, pair)) >= length for pair in pairs)
    empty = sum(min(map(len, pair)) == 0 for pair in pairs)
    if part == "train":
        pairs = [pair for pair in pairs if 0 < min(map(len, pair)) and max(map(len, pair)) < length]
        if not pairs:
            raise UserError(
                f"no line of train has 1 to {length - 1} tokens on both sides; raise data.length = {length}"
            )
        told = [f"left out {long:,} lines of train longer than {length - 1} tokens, {empty:,} with an empty side"]
    else:
        told = [f"cut      {long:,} lines of {part} to {length - 1} tokens"]
    unknown = ""
    if (unk := target.special.get("unk")) is not None:
        share = np.mean(np.concatenate([b for _, b in pairs]) == unk)
        unknown = f", {share:.2%} of them unknown"
    count = sum(min(len(b), length - 1) + 1 for _, b in pairs)
    told += [f"{part:<8} {len(pairs):,} lines, {count:,} target tokens{unknown}"]
    source_end, end, start = (
        np.array([t.special[name]], np.int32) for t, name in ((source, "eos"), (target, "eos"), (target, "bos"))
    )
    heads = [(a[: length - 1], b[: length - 1]) for a, b in pairs]
    sequences = {
        "source": [np.concatenate([a, source_end]) for a, _ in heads],
        "tokens": [np.concatenate([start, b]) for _, b in heads],
        "targets": [np.concatenate([b, end]) for _, b in heads],
    }
    return Ragged(sequences), told if long or empty else told[1:]

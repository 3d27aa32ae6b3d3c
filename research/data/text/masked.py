"""BERT's pre-training examples: pairs of segments, and masked tokens, as random-access sources.

Every random choice is a pure function of (seed, epoch, example), so that an example differs between epochs and is
reproducible. Without a seed, for evaluation, it is the same in every epoch.

Source: Devlin et al. 2019 (1810.04805), section 3.1 and appendix A.1-A.2.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from research.data.pipeline import Batch, Source
from research.data.tokenizers import Tokenizer, special_ids
from research.util.errors import UserError

_PAIRS, _MASKS = 4, 5  # tags: random streams apart from the others of (seed, epoch)
# A sentence ends at a full stop and white space, at a Chinese full stop without a space, or at the end of a line.
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\s*\n\s*")


def _rng(seed: int | None, epoch: int, tag: int, example: int) -> np.random.Generator:
    return np.random.default_rng((0, 0, tag, example) if seed is None else (seed, epoch, tag, example))


@dataclasses.dataclass(frozen=True)
class Documents:
    """Tokenized sentences: sentence s is `tokens[sentences[s]:sentences[s + 1]]`, and document d has the sentences
    `documents[d]`..`documents[d + 1] - 1`. No sentence or document is empty."""

    tokens: np.ndarray  # i32[N]
    sentences: np.ndarray  # i64[S + 1]
    documents: np.ndarray  # i64[D + 1]

    def __len__(self) -> int:
        return len(self.documents) - 1

    def between(self, first: int, stop: int) -> np.ndarray:
        """The tokens of sentences first..stop-1."""
        return self.tokens[self.sentences[first] : self.sentences[stop]]


def documents(texts: Iterable[str], tokenizer: Tokenizer, marks: Mapping[str, str | None] | None = None) -> Documents:
    """Texts, a document each -> their tokenized sentences; a text without tokens is left out.

    `marks` are words that stand for special tokens (`corpora.Corpus.marks`): WikiText's "<unk>" becomes the
    tokenizer's `unk`, if it has one, and "<eos>" (None) is dropped.
    """
    sentences: list[np.ndarray] = []
    ends = [0]
    for text in texts:
        for sentence in _SENTENCE.split(text):
            if len(ids := _encode(sentence, tokenizer, marks or {})):
                sentences.append(ids)
        if len(sentences) > ends[-1]:
            ends.append(len(sentences))
    sizes = np.array([0, *map(len, sentences)], np.int64)
    tokens = np.concatenate([np.zeros(0, np.int32), *sentences])
    return Documents(tokens, np.cumsum(sizes), np.array(ends, np.int64))


def _encode(sentence: str, tokenizer: Tokenizer, marks: Mapping[str, str | None]) -> np.ndarray:
    names = {mark: name for mark, name in marks.items() if name is None or name in tokenizer.special}
    if not names or not any(mark in sentence for mark in names):
        return tokenizer.encode(sentence)
    parts = re.split(f"({'|'.join(map(re.escape, names))})", sentence)
    ids = [tokenizer.encode(part) if part not in names else _mark(tokenizer, names[part]) for part in parts]
    return np.concatenate(ids)


def _mark(tokenizer: Tokenizer, name: str | None) -> np.ndarray:
    return np.array([] if name is None else [tokenizer.special[name]], np.int32)


class SegmentPairs:
    """[CLS] A [SEP] B [SEP], at most `length` tokens T, within document boundaries.

    A document's sentences are divided into runs that fill T; a run is an example. It is split between two
    sentences into A and B; or, with probability 1/2 and always if it is one sentence, B begins at a random sentence of
    another document. A fraction `short` of the examples is cut to a length drawn from 2 to T - 3, because texts are
    often short in fine-tuning. A pair that is too long loses tokens at random ends of the longer segment.

    {"tokens": i32[n, T], "token_type_ids": i32[n, T] (0 from [CLS] to the first [SEP], then 1; 0 in the padding),
    "token_mask": f32[n, T] (0 in the padding), "next": i32[n] (0 if B follows A, else 1: the order of BERT's classes)}.
    Raises UserError if there are fewer than two documents or an argument is out of range.
    """

    def __init__(
        self, corpus: Documents, length: int, tokenizer: Tokenizer, seed: int | None = None, short: float = 0.1
    ):
        if length < 5:
            raise UserError(f"data.length = {length}: at least 5, for [CLS] A [SEP] B [SEP]")
        if len(corpus) < 2:
            raise UserError(f"{len(corpus)} document(s): pairs of segments need two, for what does not follow")
        if not 0 <= short <= 1:
            raise UserError(f"data.short = {short}: a share, 0 to 1")
        self.corpus, self.length, self.seed, self.short = corpus, length, seed, short
        self._pad, self._cls, self._sep = special_ids(tokenizer, ("pad", "cls", "sep"))
        self._runs = np.array(list(self._divide(length - 3)), np.int64)  # document, first sentence, last + 1

    def _divide(self, room: int) -> Iterator[tuple[int, int, int]]:
        for d, (first, stop) in enumerate(zip(self.corpus.documents, self.corpus.documents[1:], strict=False)):
            while first < stop:
                end = min(self._fill(int(first), room), int(stop))
                yield d, int(first), end
                first = end

    def _fill(self, first: int, room: int) -> int:
        """The end (exclusive) of the shortest run of sentences from `first` with at least `room` tokens."""
        end = self.corpus.sentences[first] + max(room, 1)
        return max(int(np.searchsorted(self.corpus.sentences, end)), first + 1)

    def __len__(self) -> int:
        return len(self._runs)

    def gather(self, indices: np.ndarray, epoch: int = 0) -> Batch:
        n, T = len(indices), self.length
        batch = {
            "tokens": np.full((n, T), self._pad, np.int32),
            "token_type_ids": np.zeros((n, T), np.int32),
            "token_mask": np.zeros((n, T), np.float32),
            "next": np.zeros(n, np.int32),
        }
        for row, example in enumerate(np.asarray(indices)):
            a, b, batch["next"][row] = self._pair(int(example), _rng(self.seed, epoch, _PAIRS, int(example)))
            tokens = np.concatenate([[self._cls], a, [self._sep], b, [self._sep]])
            batch["tokens"][row, : len(tokens)] = tokens
            batch["token_type_ids"][row, len(a) + 2 : len(tokens)] = 1
            batch["token_mask"][row, : len(tokens)] = 1
        return batch

    def _pair(self, example: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        document, first, stop = map(int, self._runs[example])
        room = self.length - 3
        if rng.random() < self.short:
            room = int(rng.integers(2, room + 1))
            stop = min(stop, self._fill(first, room))
        middle = first + (1 if stop == first + 1 else int(rng.integers(1, stop - first)))
        a = self.corpus.between(first, middle)
        random = stop == first + 1 or rng.random() < 0.5
        b = self._random_segment(document, room - len(a), rng) if random else self.corpus.between(middle, stop)
        return *_cut(a, b, room, rng), int(random)

    def _random_segment(self, document: int, room: int, rng: np.random.Generator) -> np.ndarray:
        """A segment of about `room` tokens of any document but `document`."""
        starts = self.corpus.documents
        other = int(rng.integers(len(self.corpus) - 1))
        other += other >= document
        first = int(rng.integers(starts[other], starts[other + 1]))
        return self.corpus.between(first, min(self._fill(first, room), int(starts[other + 1])))


def _cut(a: np.ndarray, b: np.ndarray, room: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cuts both to `room` tokens in all: tokens are removed from the longer one, each at a random end."""
    sizes = [len(a), len(b)]
    while sum(sizes) > room:
        sizes[int(sizes[0] <= sizes[1])] -= 1
    fronts = rng.binomial([len(a) - sizes[0], len(b) - sizes[1]], 0.5)
    return a[fronts[0] :][: sizes[0]], b[fronts[1] :][: sizes[1]]


class Masked:
    """Masks tokens of a source with "tokens" i32[n, T] and, optionally, "token_mask" f32[n, T].

    A fraction `rate` of an example's tokens is drawn (rounded, at least one, at most `predictions` P, no special tokens):
    80 % of them become [MASK], 10 % a random token that is not special, and 10 % stay. With `whole_word` the
    pieces of a word are drawn together, or not at all if they exceed the number left to draw.

    Adds "masked_positions": i32[n, P], ascending, "targets": i32[n, P], the original tokens, and "target_mask":
    f32[n, P], 0 beyond the tokens drawn (position and target are 0 too). P None: `rate` of T. Raises UserError if an argument
    is out of range, or the tokenizer has no mask or, with `whole_word`, no word boundaries.
    """

    def __init__(
        self, source: Source, tokenizer: Tokenizer, seed: int | None = None, rate: float = 0.15,
        predictions: int | None = None, whole_word: bool = False,
    ):  # fmt: skip
        if not 0 < rate <= 1:
            raise UserError(f"data.mask_rate = {rate}: above 0, at most 1")
        if predictions is not None and predictions < 1:
            raise UserError(f"data.predictions = {predictions}: at least 1")
        self.source, self.seed, self.rate = source, seed, rate
        (self._mask,) = special_ids(tokenizer, ("mask",))
        self._special = np.array(sorted(tokenizer.special.values()), np.int32)
        self._others = np.setdiff1d(np.arange(tokenizer.size, dtype=np.int32), self._special)
        self._continues = _continues(tokenizer) if whole_word else None
        length = source.gather(np.zeros(1, np.int64), 0)["tokens"].shape[1] if len(source) else 1
        self.predictions = predictions or max(1, round(rate * length))

    def __len__(self) -> int:
        return len(self.source)

    def gather(self, indices: np.ndarray, epoch: int = 0) -> Batch:
        batch = self.source.gather(indices, 0 if self.seed is None else epoch)
        tokens, P = batch["tokens"].copy(), self.predictions
        inside = batch.get("token_mask", np.ones(tokens.shape, np.float32)) > 0
        free = inside & ~np.isin(tokens, self._special)
        out = {name: np.zeros((len(tokens), P), np.int32) for name in ("masked_positions", "targets")}
        weights = np.zeros((len(tokens), P), np.float32)
        for row, example in enumerate(np.asarray(indices)):
            rng = _rng(self.seed, epoch, _MASKS, int(example))
            count = min(P, max(1, round(self.rate * int(inside[row].sum()))))
            drawn = self._draw(tokens[row], np.flatnonzero(free[row]), count, rng)
            n = len(drawn)
            out["masked_positions"][row, :n], out["targets"][row, :n], weights[row, :n] = drawn, tokens[row, drawn], 1
            kind = rng.random(n)
            random = self._others[rng.integers(len(self._others), size=n)]
            tokens[row, drawn] = np.where(kind < 0.8, self._mask, np.where(kind < 0.9, random, tokens[row, drawn]))
        return {**batch, **out, "tokens": tokens, "target_mask": weights}

    def _draw(self, tokens: np.ndarray, positions: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        if self._continues is None:
            return np.sort(rng.permutation(positions)[:count])
        # A piece continues a word only if the position before it may be drawn too.
        continues = self._continues[tokens[positions]] & (np.diff(positions, prepend=-2) == 1)
        words = np.split(positions, np.flatnonzero(~continues)[1:])
        drawn: list[int] = []
        for w in rng.permutation(len(words)):
            if len(drawn) + len(words[w]) <= count:
                drawn += words[w].tolist()
            if len(drawn) == count:
                break
        return np.sort(np.array(drawn, np.int64))


def _continues(tokenizer: Any) -> np.ndarray:
    """bool[V]: the pieces that continue a word."""
    continues = getattr(tokenizer, "continues", None)
    if continues is None:
        name = getattr(tokenizer, "name", type(tokenizer).__name__)
        raise UserError(f"data.whole_word: the tokenizer {name!r} does not tell a word's pieces; 'wordpiece' does")
    return continues

"""What BERT is pre-trained on: pairs of segments, and masked tokens, as random-access sources.

Every draw is a function of (seed, epoch, example), so an example looks different in each epoch and the same
whenever it is asked for. Without a seed, for evaluation, it is the same in every epoch.

Source: Devlin et al. 2019 (1810.04805), section 3.1 and appendix A.1-A.2.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from research.data.pipeline import Batch, Source
from research.data.tokenizers import Tokenizer
from research.util.errors import UserError

_PAIRS, _MASKS = 4, 5  # keep these draws apart from the others of (seed, epoch)
# After a full stop and a space; after a Chinese one, which no space follows; at the end of a line.
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\s*\n\s*")


def _rng(seed: int | None, epoch: int, tag: int, example: int) -> np.random.Generator:
    return np.random.default_rng((0, 0, tag, example) if seed is None else (seed, epoch, tag, example))


@dataclasses.dataclass(frozen=True)
class Documents:
    """Sentences in tokens: number s is `tokens[sentences[s]:sentences[s + 1]]`; document d has those numbered from
    `documents[d]` to before `documents[d + 1]`. None is empty."""

    tokens: np.ndarray  # i32[N]
    sentences: np.ndarray  # i64[S + 1]
    documents: np.ndarray  # i64[D + 1]

    def __len__(self) -> int:
        return len(self.documents) - 1

    def between(self, first: int, stop: int) -> np.ndarray:
        """The tokens of sentences first..stop-1."""
        return self.tokens[self.sentences[first] : self.sentences[stop]]


def documents(texts: Iterable[str], tokenizer: Tokenizer, marks: Mapping[str, str | None] | None = None) -> Documents:
    """Texts, a document each -> their sentences in tokens; a text without a token is left out.

    `marks` are words that stand for special tokens (`corpora.Corpus.marks`): WikiText's "<unk>" becomes the
    tokenizer's own, where it has one, and "<eos>" (None) nothing.
    """
    found: list[np.ndarray] = []
    ends = [0]
    for text in texts:
        for sentence in _SENTENCE.split(text):
            if len(ids := _encode(sentence, tokenizer, marks or {})):
                found.append(ids)
        if len(found) > ends[-1]:
            ends.append(len(found))
    sizes = np.array([0, *map(len, found)], np.int64)
    tokens = np.concatenate([np.zeros(0, np.int32), *found])
    return Documents(tokens, np.cumsum(sizes), np.array(ends, np.int64))


def _encode(sentence: str, tokenizer: Tokenizer, marks: Mapping[str, str | None]) -> np.ndarray:
    known = {mark: name for mark, name in marks.items() if name is None or name in tokenizer.special}
    if not known or not any(mark in sentence for mark in known):
        return tokenizer.encode(sentence)
    parts = re.split(f"({'|'.join(map(re.escape, known))})", sentence)
    ids = [tokenizer.encode(part) if part not in known else _mark(tokenizer, known[part]) for part in parts]
    return np.concatenate(ids)


def _mark(tokenizer: Tokenizer, name: str | None) -> np.ndarray:
    return np.array([] if name is None else [tokenizer.special[name]], np.int32)


def _special(tokenizer: Tokenizer, names: Iterable[str]) -> Iterator[int]:
    for name in names:
        if name not in tokenizer.special:
            kind = getattr(tokenizer, "name", type(tokenizer).__name__)
            raise UserError(f"data.tokenizer = {kind!r} has no token {name!r}; 'wordpiece', 'bpe' and 'unigram' have")
        yield tokenizer.special[name]


class SegmentPairs:
    """[CLS] A [SEP] B [SEP], of `length` tokens T at most, with true document boundaries.

    A document's sentences are taken in turns of as many as fill T; a turn is an example. It is parted at a
    sentence into A and B, or, half of the times and where it is one sentence, B begins at some sentence of
    another document. A share `short` of the examples is cut to a length drawn from 2 to T - 3, since a model
    that is fine-tuned sees short texts. What is too long loses tokens at the ends of the longer segment.

    {"tokens": i32[n, T], "segments": i32[n, T] (0 from [CLS] to the first [SEP], then 1, 0 in the padding),
    "token_mask": f32[n, T] (1 for what is no padding), "next": i32[n] (0 where B follows A, 1 where it does
    not: the order of BERT's two classes)}.
    """

    def __init__(
        self, found: Documents, length: int, tokenizer: Tokenizer, seed: int | None = None, short: float = 0.1
    ):
        if length < 5:
            raise UserError(f"data.length = {length}: at least 5, for [CLS] A [SEP] B [SEP]")
        if len(found) < 2:
            raise UserError(f"{len(found)} document(s): pairs of segments need two, for what does not follow")
        if not 0 <= short <= 1:
            raise UserError(f"data.short = {short}: a share, 0 to 1")
        self.found, self.length, self.seed, self.short = found, length, seed, short
        self._pad, self._cls, self._sep = _special(tokenizer, ("pad", "cls", "sep"))
        self._turns = np.array(list(self._divide(length - 3)), np.int64)  # document, first sentence, last + 1

    def _divide(self, room: int) -> Iterator[tuple[int, int, int]]:
        for d, (first, stop) in enumerate(zip(self.found.documents, self.found.documents[1:], strict=False)):
            while first < stop:
                end = min(self._fill(int(first), room), int(stop))
                yield d, int(first), end
                first = end

    def _fill(self, first: int, room: int) -> int:
        """The sentence after those that, from `first`, have at least `room` tokens, one at least."""
        wanted = self.found.sentences[first] + max(room, 1)
        return max(int(np.searchsorted(self.found.sentences, wanted)), first + 1)

    def __len__(self) -> int:
        return len(self._turns)

    def gather(self, indices: np.ndarray, epoch: int = 0) -> Batch:
        n, T = len(indices), self.length
        batch = {
            "tokens": np.full((n, T), self._pad, np.int32),
            "segments": np.zeros((n, T), np.int32),
            "token_mask": np.zeros((n, T), np.float32),
            "next": np.zeros(n, np.int32),
        }
        for row, example in enumerate(np.asarray(indices)):
            a, b, batch["next"][row] = self._pair(int(example), _rng(self.seed, epoch, _PAIRS, int(example)))
            tokens = np.concatenate([[self._cls], a, [self._sep], b, [self._sep]])
            batch["tokens"][row, : len(tokens)] = tokens
            batch["segments"][row, len(a) + 2 : len(tokens)] = 1
            batch["token_mask"][row, : len(tokens)] = 1
        return batch

    def _pair(self, example: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        document, first, stop = map(int, self._turns[example])
        room = self.length - 3
        if rng.random() < self.short:
            room = int(rng.integers(2, room + 1))
            stop = min(stop, self._fill(first, room))
        middle = first + (1 if stop == first + 1 else int(rng.integers(1, stop - first)))
        a = self.found.between(first, middle)
        other = stop == first + 1 or rng.random() < 0.5
        b = self._elsewhere(document, room - len(a), rng) if other else self.found.between(middle, stop)
        return *_cut(a, b, room, rng), int(other)

    def _elsewhere(self, document: int, room: int, rng: np.random.Generator) -> np.ndarray:
        starts = self.found.documents
        there = int(rng.integers(len(self.found) - 1))
        there += there >= document
        first = int(rng.integers(starts[there], starts[there + 1]))
        return self.found.between(first, min(self._fill(first, room), int(starts[there + 1])))


def _cut(a: np.ndarray, b: np.ndarray, room: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Both with `room` tokens at most: the longer loses one after the other, at its front or its back."""
    sizes = [len(a), len(b)]
    while sum(sizes) > room:
        sizes[int(sizes[0] <= sizes[1])] -= 1
    fronts = rng.binomial([len(a) - sizes[0], len(b) - sizes[1]], 0.5)
    return a[fronts[0] :][: sizes[0]], b[fronts[1] :][: sizes[1]]


class Masked:
    """A source of "tokens" i32[n, T] and perhaps "token_mask" f32[n, T], with some tokens hidden to be told.

    Of an example's tokens a share `rate` (rounded, one at least, `predictions` P at most, special tokens never)
    is drawn; 8 in 10 of these become [MASK], 1 in 10 any token that is not special, and 1 in 10 stays. With
    `whole_word` the pieces of a word are drawn together, or not at all where they are more than are left to draw.

    Adds "positions": i32[n, P], ascending, "targets": i32[n, P], what stood there, and "target_mask":
    f32[n, P], 0 where fewer than P were drawn (position and target are 0 there). P None is `rate` of T.
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
        (self._mask,) = _special(tokenizer, ("mask",))
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
        out = {name: np.zeros((len(tokens), P), np.int32) for name in ("positions", "targets")}
        weights = np.zeros((len(tokens), P), np.float32)
        for row, example in enumerate(np.asarray(indices)):
            rng = _rng(self.seed, epoch, _MASKS, int(example))
            count = min(P, max(1, round(self.rate * int(inside[row].sum()))))
            places = self._draw(tokens[row], np.flatnonzero(free[row]), count, rng)
            n = len(places)
            out["positions"][row, :n], out["targets"][row, :n], weights[row, :n] = places, tokens[row, places], 1
            kind = rng.random(n)
            random = self._others[rng.integers(len(self._others), size=n)]
            tokens[row, places] = np.where(kind < 0.8, self._mask, np.where(kind < 0.9, random, tokens[row, places]))
        return {**batch, **out, "tokens": tokens, "target_mask": weights}

    def _draw(self, tokens: np.ndarray, places: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        if self._continues is None:
            return np.sort(rng.permutation(places)[:count])
        # A piece goes on with a word only where the piece before it is there, and free, too.
        goes_on = self._continues[tokens[places]] & (np.diff(places, prepend=-2) == 1)
        words = np.split(places, np.flatnonzero(~goes_on)[1:])
        drawn: list[int] = []
        for w in rng.permutation(len(words)):
            if len(drawn) + len(words[w]) <= count:
                drawn += words[w].tolist()
            if len(drawn) == count:
                break
        return np.sort(np.array(drawn, np.int64))


def _continues(tokenizer: Any) -> np.ndarray:
    """bool[V]: the pieces that go on with a word."""
    found = getattr(tokenizer, "continues", None)
    if found is None:
        name = getattr(tokenizer, "name", type(tokenizer).__name__)
        raise UserError(f"data.whole_word: the tokenizer {name!r} does not tell a word's pieces; 'wordpiece' does")
    return found

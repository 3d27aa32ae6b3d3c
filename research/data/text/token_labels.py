"""Token labelling: batches of texts with a label for each word, and the conversion from a text to its labels.

Config: source (`token_label_corpora.SOURCES`) and its options, tokenizer and its options (vocab_size, min_count, lowercase),
length (tokens of a row, T), batch_size and eval_batch_size.

The source defines the words. The first token of a word has its label, all other tokens have `NONE`. A text that
does not fit into one row continues in the next, so that every word has a label exactly once.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from research.core.experiment import Baseline, Codec, Dataset
from research.data import codecs, tokenizers, user_files
from research.data.pipeline import Arrays, EvalBatches, TrainBatches
from research.data.text import label_spans, token_label_corpora, token_label_rules
from research.data.text.token_label_corpora import Corpus
from research.data.text.token_label_rules import SpanScores, Words
from research.util.errors import UserError

NONE = -1
AROUND = ("cls", "sep")  # the first and the last token of a row


@codecs.register("word_rows")
class Rows:
    """Words -> rows of `length` tokens. Raises UserError if the tokenizer has no cls or sep, or `length` is below 3.

    A text that does not fit is cut behind the last of the words `ends` that does, or else where the row is full. `space` is
    what a word's tokens begin with.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, length: int, ends: Sequence[str] = (), space: str = " "):
        if length < 3:
            raise UserError(f"data.length = {length}: at least 3, for a piece between {' and '.join(AROUND)}")
        self.tokenizer, self.length, self.ends, self.space = tokenizer, length, ends, space
        self._first, self._last = ([i] for i in tokenizers.special_ids(tokenizer, AROUND))
        self._cache: dict[str, list[int]] = {}

    def pieces(self, word: str) -> list[int]:
        """A word's tokens after another word: at least one, and at most as many as fit into a row."""
        if word not in self._cache:
            ids = self.tokenizer.encode(self.space + word).tolist()
            self._cache[word] = (ids or [self.tokenizer.special.get("unk", self._last[0])])[: self.length - 2]
        return self._cache[word]

    def of_text(self, words: Words) -> list[tuple[list[int], list[int]]]:
        """One text -> (tokens, labels) of each of its rows, not padded."""
        return [self._row(words[a:b]) for a, b in itertools.pairwise(self.cuts([word for word, _ in words]))]

    def cuts(self, words: Sequence[str]) -> list[int]:
        """Where the rows of a text begin, and behind it its end."""
        cuts, used = [0], 0
        for i, word in enumerate(words):
            used += len(self.pieces(word))
            while used > self.length - 2:
                pauses = (j for j in range(i, cuts[-1], -1) if words[j - 1] in self.ends)
                cuts.append(next(pauses, i))
                used = sum(len(self.pieces(word)) for word in words[cuts[-1] : i + 1])
        return [*cuts, len(words)] if words else cuts

    def _row(self, words: Words) -> tuple[list[int], list[int]]:
        pieces = [(self.pieces(word), label) for word, label in words]
        tokens = [token for each, _ in pieces for token in each]
        labels = [x for each, label in pieces for x in (label, *[NONE] * (len(each) - 1))]
        return self._first + tokens + self._last, [NONE, *labels, NONE]

    def arrays(self, texts: Sequence[Words]) -> Arrays:
        """Texts -> {"tokens", "labels": i32[n, T], "length": i32[n]}, padded with 0 and `NONE`."""
        rows = [row for words in texts for row in self.of_text(words)]
        out = {
            "tokens": np.zeros((len(rows), self.length), np.int32),
            "labels": np.full((len(rows), self.length), NONE, np.int32),
            "length": np.array([len(tokens) for tokens, _ in rows], np.int32),
        }
        for i, row in enumerate(rows):
            for name, values in zip(("tokens", "labels"), row, strict=True):
                out[name][i, : len(values)] = values
        return Arrays(out)


class TokenLabels(Dataset):
    """Batches {"tokens", "labels": i32[B, T], "length": i32[B]}, label `NONE` for no label; `classes` are names."""

    def __init__(
        self, corpus: Corpus, rows: Rows, parts: Mapping[str, Arrays], report: Sequence[str], *,
        batch_size: int, eval_batch_size: int, seed: int, span_scores: SpanScores | None = None,
    ):  # fmt: skip
        """`parts` are the parts of `corpus`, converted by `rows`; `span_scores` are precision, recall and F1 of spans."""
        self.train = TrainBatches(parts["train"], batch_size, seed)
        self.evals = {name: EvalBatches(part, eval_batch_size) for name, part in parts.items() if name != "train"}
        self.classes, self.spans, self.rows, self.report = corpus.classes, corpus.spans, rows, report
        self._corpus, self._span_scores = corpus, span_scores
        joint = corpus.spans.joint if corpus.spans else None
        self.codec, self.tokenizers = WordLabels(rows, corpus.classes, corpus.unit, joint), (rows.tokenizer,)

    def baselines(self) -> Mapping[str, Baseline]:
        parts = self._corpus.parts
        out: dict[str, Baseline] = {}
        labellers = {name: rule(parts["train"]) for name, rule in self._corpus.rules.items()}
        score = self._named_span_scores if self.spans and self._span_scores else None
        for part in self.evals:
            scores = token_label_rules.scores(parts[part], self.classes, labellers, score)
            out |= {f"{part}/{metric}": Baseline(values) for metric, values in scores.items()}
        return out

    def _named_span_scores(self, true: Any, predicted: Any) -> dict[str, float]:
        return {f"{self.spans.name}_{name}": value for name, value in self._span_scores(true, predicted).items()}


@codecs.register("word_labels")
@dataclasses.dataclass(frozen=True)
class WordLabels(Codec):
    """A text <-> a label, one of `classes`, for each of its words.

    unit   of the text: "word" or "character" (`token_label_corpora.UNITS`)
    joint  what stands between the words of a span; None if labels form no spans
    """

    rows: Rows
    classes: tuple[str, ...]
    unit: str
    joint: str | None

    takes = "text"

    @property
    def inputs(self) -> dict[str, tuple]:
        return {"tokens": (("b", "t"), "int32"), "length": (("b",), "int32"), "starts": (("b", "t"), "int32")}

    @property
    def constraints(self) -> tuple[str]:
        return (f"t <= {self.rows.length}",)

    def encode(self, value: str) -> dict[str, np.ndarray]:
        """A text -> one row, with as many of its words as fit: {"tokens", "starts": i32[1, t], "length": i32[1]}.

        "starts" is 1 at the first token of each word. Raises UserError if the text is empty.
        """
        if not (words := token_label_corpora.UNITS[self.unit](value)):
            raise UserError("the text is empty: there is no word to label")
        tokens, labels = self.rows.of_text([(word, 0) for word in words])[0]
        starts = np.array([labels]) != NONE
        return {
            "tokens": np.array([tokens], np.int32),
            "starts": starts.astype(np.int32),
            "length": np.array([len(tokens)], np.int32),
        }

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """-> "words": [word, its label, the label's probability] for each word; "spans": [words, type] of each span, or words."""
        tokens, labels, p = (np.asarray(outputs[name])[0] for name in ("tokens", "labels", "probabilities"))
        starts = np.flatnonzero(outputs["starts"][0])
        ends = [*starts[1:], int(outputs["length"][0]) - 1]
        words = [self.rows.tokenizer.decode(tokens[a:b]).strip() for a, b in zip(starts, ends, strict=True)]
        names = [self.classes[k] for k in labels[starts]]
        rows = zip(words, names, p[starts, labels[starts]], strict=True)
        out: dict[str, Any] = {"words": [[word, name, round(float(q), 4)] for word, name, q in rows]}
        if self.joint is not None:
            spans = [(self.joint.join(words[a : b + 1]), kind) for kind, a, b in label_spans.spans(names)]
            out["spans"] = [[text, kind] if kind else text for text, kind in spans]
        return out

    def read(self, file: Path) -> str:
        return user_files.read(file)


def load(cfg: Mapping[str, Any], seed: int, span_scores: SpanScores | None = None) -> TokenLabels:
    """The data set of a config's `data` group. A tokenizer is trained on the training words only.

    `span_scores` are for the baselines of a corpus whose labels form spans.
    """
    corpus = token_label_corpora.load(cfg)
    train = "\n".join(" ".join(word for word, _ in words) for words in corpus.parts["train"])
    options = {key: user_files.option(cfg, key, None) for key in ("vocab_size", "min_count", "lowercase")}
    tokenizer = tokenizers.make(cfg["tokenizer"], train, special=AROUND, **options)
    # A piece has the space before it inside; among characters that are labelled it would be a token before each.
    alone = isinstance(tokenizer, tokenizers.plain.Char) and corpus.unit == "character"
    rows = Rows(tokenizer, cfg["length"], corpus.ends, "" if alone else " ")
    parts = {name: rows.arrays(texts) for name, texts in corpus.parts.items()}
    batch_sizes = {key: cfg[key] for key in ("batch_size", "eval_batch_size")}
    report = [*corpus.report, *_report(corpus, rows, parts, cfg["tokenizer"])]
    return TokenLabels(corpus, rows, parts, report, **batch_sizes, seed=seed, span_scores=span_scores)


def _report(corpus: Corpus, rows: Rows, parts: Mapping[str, Arrays], tokenizer: str) -> list[str]:
    sizes = ", ".join(f"{sum(map(len, corpus.parts[p])):,} in {len(a):,} rows of {p}" for p, a in parts.items())
    labels = [label for words in corpus.parts["train"] for _, label in words]
    counts = np.bincount(labels, minlength=len(corpus.classes))
    shares = ", ".join(f"{name} {n / counts.sum():.1%}" for name, n in zip(corpus.classes, counts, strict=True))
    lines = [f"classes  {shares} of the words to train", f"words    {sizes}"]
    if corpus.spans and (cut := sum(map(partial(_cut_spans, corpus, rows), itertools.chain(*corpus.parts.values())))):
        lines.append(
            f"warning  {cut:,} spans cross the end of a row and count as two; set data.length above {rows.length}"
        )
    return [*lines, f"tokens   {tokenizer}, vocabulary {rows.tokenizer.size:,}"]


def _cut_spans(corpus: Corpus, rows: Rows, words: Words) -> int:
    """How many spans of a text lie in two of its rows."""
    cuts = rows.cuts([word for word, _ in words])[1:-1]
    return sum(
        not label_spans.ends(*(corpus.classes[words[i][1]] for i in (cut - 1, cut)))
        for cut in cuts
        if corpus.classes[words[cut - 1][1]] != label_spans.OUTSIDE
    )

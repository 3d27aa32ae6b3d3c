"""Token labelling: batches of texts with a label for each word, and the conversion from a text to its labels.

Config: source (`SOURCES`), tokenizer and its options (vocab_size, min_count, lowercase), length (tokens of a row, T),
batch_size and eval_batch_size.

The source defines the words. The first token of a word has its label, all other tokens have `NONE`. A text that
does not fit into one row continues in the next, so that every word has a label exactly once.
"""

import collections
import dataclasses
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np

from research.core.experiment import Baseline, Dataset
from research.data import tfds_records, tokenizers, user_files
from research.data.builders import sst_trees as treebank
from research.data.pipeline import Arrays, EvalBatches, TrainBatches
from research.util.errors import UserError, nearest

NONE = -1
AROUND = ("cls", "sep")  # the first and the last token of a row
Words = list[tuple[str, int]]  # of a text: each word and its label


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Texts by part ("train", "valid" and, if there is one, "test"); `classes[label]` is a label's name."""

    parts: dict[str, list[Words]]
    classes: tuple[str, ...]
    report: list[str]


SOURCES: dict[str, Callable[[Mapping[str, Any]], Corpus]] = {}


def _source(function: Callable[[Mapping[str, Any]], Corpus]) -> Callable:
    SOURCES[function.__name__] = function
    return function


_MARKED = re.compile(r"(.*\w)\W*")
MARKS = {",": 1, ".": 2, ":": 3}


@_source
def punctuation(cfg: Mapping[str, Any]) -> Corpus:
    """Punctuation of Python's language reference: which of , . : follows each word, if any.

    A text is a topic; topics are sorted by name, and the last tenth is for validation. A word has a letter or
    digit. The text differs a little between Python versions.
    """
    texts = []
    for name in sorted(topics):
        matches = (_MARKED.fullmatch(word) for word in topics[name].split())
        texts.append([(m[1], next((MARKS[c] for c in m[0][m.end(1) :] if c in MARKS), 0)) for m in matches if m])
    texts = [words for words in texts if words]
    cut = len(texts) - max(1, len(texts) // 10)
    report = [f"source   pydoc: {len(texts)} topics of Python {platform.python_version()}"]
    return Corpus({"train": texts[:cut], "valid": texts[cut:]}, ("none", "comma", "period", "colon"), report)


_LEAF = re.compile(r"\(\d [^()]+\)")


@_source
def sst_words(cfg: Mapping[str, Any]) -> Corpus:
    """The sentiment of each word of the Stanford Sentiment Treebank, 8,544 / 1,101 / 2,210 sentences, five classes.

    Words were annotated without their context: the label of a word is nearly the same in all sentences.
    """
    splits = {"train": "train", "valid": "validation", "test": "test"}
    trees = {
        part: [row["tree"].decode("utf-8") for row in tfds_records.examples("sst_trees", s)]
        for part, s in splits.items()
    }
    parts = {part: [leaves(tree) for tree in sentences] for part, sentences in trees.items()}
    return Corpus(parts, treebank.CLASSES, ["source   sst_trees: the words of every sentence"])


def leaves(tree: str) -> Words:
    """The words of a bracketed sentence with their labels, in order.

    >>> leaves("(3 (2 a) (4 good))")
    [('a', 2), ('good', 4)]
    """
    return [treebank.phrases(leaf)[0] for leaf in _LEAF.findall(tree)]


class Rows:
    """Words -> rows of `length` tokens. Raises UserError if the tokenizer has no cls or sep, or `length` is below 3."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, length: int):
        if missing := [name for name in AROUND if name not in tokenizer.special]:
            raise UserError(f"data.tokenizer has no token {missing[0]!r}: choose wordpiece, word, bpe or unigram")
        if length < 3:
            raise UserError(f"data.length = {length}: at least 3, for a piece between {' and '.join(AROUND)}")
        self.tokenizer, self.length = tokenizer, length
        self._first, self._last = ([tokenizer.special[name]] for name in AROUND)
        self._cache: dict[str, list[int]] = {}

    def pieces(self, word: str) -> list[int]:
        """A word's tokens after another word: at least one, and at most as many as fit into a row."""
        if word not in self._cache:
            ids = self.tokenizer.encode(f" {word}").tolist() or [self.tokenizer.special.get("unk", self._last[0])]
            self._cache[word] = ids[: self.length - 2]
        return self._cache[word]

    def of_text(self, words: Words) -> list[tuple[list[int], list[int]]]:
        """One text -> (tokens, labels) of each of its rows, not padded."""
        rows: list[tuple[list[int], list[int]]] = []
        tokens: list[int] = []
        labels: list[int] = []
        for word, label in words:
            pieces = self.pieces(word)
            if tokens and len(tokens) + len(pieces) > self.length - 2:
                rows.append((tokens, labels))
                tokens, labels = [], []
            tokens, labels = tokens + pieces, labels + [label] + [NONE] * (len(pieces) - 1)
        rows += [(tokens, labels)] if tokens else []
        return [(self._first + t + self._last, [NONE, *ls, NONE]) for t, ls in rows]

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
        batch_size: int, eval_batch_size: int, seed: int,
    ):  # fmt: skip
        """`parts` are the parts of `corpus`, converted by `rows`."""
        self.train = TrainBatches(parts["train"], batch_size, seed)
        self.evals = {name: EvalBatches(part, eval_batch_size) for name, part in parts.items() if name != "train"}
        self.classes, self.rows, self.report, self._texts = corpus.classes, rows, report, corpus.parts
        self.inputs = {"tokens": (("b", "t"), "int32"), "length": (("b",), "int32"), "starts": (("b", "t"), "int32")}
        self.constraints, self.tokenizers = (f"t <= {rows.length}",), (rows.tokenizer,)

    def baselines(self) -> Mapping[str, Baseline]:
        scores = rule_scores(self._texts["train"], self._texts["valid"], len(self.classes))
        return {f"valid/{metric}": Baseline(values) for metric, values in scores.items()}

    def encode(self, value: str) -> dict[str, np.ndarray]:
        """A text -> one row, with as many of its words as fit: {"tokens", "starts": i32[1, t], "length": i32[1]}.

        "starts" is 1 at the first token of each word. Raises UserError if the text is empty.
        """
        if not (words := value.split()):
            raise UserError("the text is empty: there is no word to label")
        tokens, labels = self.rows.of_text([(word, 0) for word in words])[0]
        starts = np.array([labels]) != NONE
        return {
            "tokens": np.array([tokens], np.int32),
            "starts": starts.astype(np.int32),
            "length": np.array([len(tokens)], np.int32),
        }

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """-> "words": [word, its top-1 class, the class's probability] for each word."""
        tokens, p = outputs["tokens"][0], np.asarray(outputs["probabilities"])[0]
        starts = np.flatnonzero(outputs["starts"][0])
        ends = [*starts[1:], int(outputs["length"][0]) - 1]
        words = [self.rows.tokenizer.decode(tokens[a:b]).strip() for a, b in zip(starts, ends, strict=True)]
        best, probability = p[starts].argmax(-1), p[starts].max(-1)
        rows = zip(words, best, probability, strict=True)
        return {"words": [[word, self.classes[k], round(float(q), 4)] for word, k, q in rows]}

    def read(self, file: Path) -> str:
        return user_files.read(file)


def load(cfg: Mapping[str, Any], seed: int) -> TokenLabels:
    """The data set of a config's `data` group. A tokenizer is trained on the training words only."""
    source = cfg["source"]
    if source not in SOURCES:
        raise UserError(f"no source of labelled words {source!r}{nearest(source, SOURCES)}")
    corpus = SOURCES[source](cfg)
    train = "\n".join(" ".join(word for word, _ in words) for words in corpus.parts["train"])
    options = {key: user_files.option(cfg, key, None) for key in ("vocab_size", "min_count", "lowercase")}
    if cfg["tokenizer"] == "word":
        options["special"] = AROUND
    rows = Rows(tokenizers.make(cfg["tokenizer"], train, **options), cfg["length"])
    parts = {name: rows.arrays(texts) for name, texts in corpus.parts.items()}
    sizes = ", ".join(f"{sum(map(len, corpus.parts[p])):,} in {len(a):,} rows of {p}" for p, a in parts.items())
    counts = np.bincount(
        [label for words in corpus.parts["train"] for _, label in words], minlength=len(corpus.classes)
    )
    shares = ", ".join(f"{name} {n / counts.sum():.1%}" for name, n in zip(corpus.classes, counts, strict=True))
    report = [
        *corpus.report,
        f"classes  {shares} of the words to train",
        f"words    {sizes}",
        f"tokens   {cfg['tokenizer']}, vocabulary {rows.tokenizer.size:,}",
    ]
    batch_sizes = {key: cfg[key] for key in ("batch_size", "eval_batch_size")}
    return TokenLabels(corpus, rows, parts, report, **batch_sizes, seed=seed)


def rule_scores(train: Sequence[Words], texts: Sequence[Words], num_classes: int) -> dict[str, dict[str, float]]:
    """Word-level metrics on `texts` of two rules: the most frequent label, and each word's most frequent label in `train`.

    Returns {"accuracy", "macro_f1": {rule: value}}; an unknown word gets the most frequent label.
    """
    most_frequent = collections.Counter(label for words in train for _, label in words).most_common(1)[0][0]
    own: dict[str, int] = {}
    for (word, label), _ in collections.Counter(pair for words in train for pair in words).most_common():
        own.setdefault(word, label)
    pairs = [pair for words in texts for pair in words]
    labels = np.array([label for _, label in pairs])
    predictions = {
        "most frequent class": np.full(len(pairs), most_frequent),
        "each word's own": np.array([own.get(word, most_frequent) for word, _ in pairs]),
    }
    scores: dict[str, dict[str, float]] = {"accuracy": {}, "macro_f1": {}}
    for rule, predicted in predictions.items():
        columns = (labels, predicted, labels[labels == predicted])
        true, positive, hits = (np.bincount(column, minlength=num_classes) for column in columns)
        scores["accuracy"][rule] = float(hits.sum() / len(pairs))
        scores["macro_f1"][rule] = float(np.mean(2 * hits / np.maximum(true + positive, 1)))
    return scores

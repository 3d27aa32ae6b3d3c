"""Labelled texts in tokens, as random-access sources and as batches: {"tokens": i32[n, T], "length": i32[n], "label": i32[n]}.

Config: source (`SOURCES`), normalise (`normalise.NORMALISERS`), tokenizer and its options (vocab_size, min_count, special),
length (tokens kept of a text, T) and keep (head or tail, of a longer one); fold of folds for cross-validation; where a part
is to be cut from train, valid_fraction and test_fraction (0.1).
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from research.data import tokenizers, user_files
from research.data.buckets import Bucketed, bounds
from research.data.images import labelled
from research.data.pipeline import Batch, EvalBatches, TrainBatches
from research.data.text import labelled_corpora, normalise
from research.data.text.labelled_corpora import Corpus, Part
from research.data.tokenizers.plain import Word
from research.util.errors import UserError

ENDS = ("head", "tail")
MOST_TOKENS = 1 << 16


class Texts:
    """Rows of tokens in memory, as `pipeline.TrainBatches` wants a source and `buckets.Bucketed` one of many lengths."""

    def __init__(self, rows: Sequence[np.ndarray], labels: np.ndarray, length: int):
        self.labels, self.length = labels.astype(np.int32), length
        self.lengths = np.array([len(row) for row in rows], np.int64)
        self._flat = np.concatenate([*rows, [0]]).astype(np.int32)
        self._starts = np.cumsum(self.lengths) - self.lengths

    def __len__(self) -> int:
        return len(self.labels)

    def row(self, i: int) -> np.ndarray:
        """The tokens of one text, i32[t]."""
        return self._flat[self._starts[i] : self._starts[i] + self.lengths[i]]

    def gather(self, indices: np.ndarray, epoch: int = 0, length: int | None = None) -> Batch:
        """{"tokens": i32[n, T], "length": i32[n], "label": i32[n]}; T is `length`, by default the config's."""
        places, indices = np.arange(length or self.length), np.asarray(indices, np.int64)
        lengths = self.lengths[indices]
        at = np.where(places < lengths[:, None], self._starts[indices, None] + places, len(self._flat) - 1)
        return {"tokens": self._flat[at], "length": lengths.astype(np.int32), "label": self.labels[indices]}


def batches(texts: Texts, buckets: int, batch_size: int, seed: int | None = None) -> Any:
    """Batches of `batch_size` rows: shuffled and endless with a seed, else one ordered pass.

    With `buckets`, each is of texts about as long as each other, and padded to the longest of its bucket alone.
    """
    if buckets:
        return Bucketed(texts, bounds(texts.lengths, buckets), 1, seed, batch_size)
    return EvalBatches(texts, batch_size) if seed is None else TrainBatches(texts, batch_size, seed)


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A data set in tokens. `valid` and `test` are None where there is none; `baselines` are accuracies to beat."""

    train: Texts
    valid: Texts | None
    test: Texts | None
    classes: tuple[str, ...]
    encoder: "Encoder"
    report: list[str]
    baselines: dict[str, float]


class Encoder:
    """Text -> tokens of one length: cleaned, in a vocabulary, between `cls` and `sep` where that has them, cut, filled up.

    What is filled up is 0 and lies beyond the row's `length`. A text of no token reads as one `unk`, or a 0.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, clean: Callable[[str], str], length: int, keep: str):
        special = tokenizer.special
        self.tokenizer, self.clean, self.length, self.keep = tokenizer, clean, length, keep
        self._around = [special["cls"], special["sep"]] if {"cls", "sep"} <= special.keys() else []
        self._nothing = special.get("unk", 0)
        if length <= len(self._around):
            raise UserError(f"data.length = {length}: at least {len(self._around) + 1}")

    @property
    def size(self) -> int:
        return self.tokenizer.size

    def ids(self, text: str) -> np.ndarray:
        """The whole text, i32[t], not yet cut."""
        return self.tokenizer.encode(self.clean(text))

    def encode(self, text: str) -> np.ndarray:
        """i32[t], t in 1..length."""
        return self.fit(self.ids(text))

    def fit(self, ids: np.ndarray) -> np.ndarray:
        """Ids of a whole text as `encode` gives them."""
        ids = self._cut(ids) if len(ids) else np.array([self._nothing])
        return np.array([*self._around[:1], *ids, *self._around[1:]], np.int32)

    def _cut(self, whole: Any) -> Any:
        room = self.length - len(self._around)
        return whole[:room] if self.keep == "head" else whole[max(0, len(whole) - room) :]

    def row(self, text: str) -> dict[str, np.ndarray]:
        """A text as a model's inputs: {"tokens": i32[1, t], "length": i32[1]}."""
        ids = self.encode(text)
        return {"tokens": ids[None], "length": np.array([len(ids)], np.int32)}

    def words(self, text: str) -> tuple[np.ndarray, list[str]]:
        """A text's tokens as the model gets them, i32[t], and what each reads; of a word that is unknown, the word."""
        ids = self.encode(text)
        shown = [self.tokenizer.decode(ids[i : i + 1]) for i in range(len(ids))]
        words, first = self._cut(self.clean(text).split()), len(self._around[:1])
        if isinstance(self.tokenizer, Word) and words:
            shown[first : first + len(words)] = words
        return ids, shown


def load(cfg: Mapping[str, Any]) -> Labelled:
    """The data set `cfg["source"]` in tokens; what a tokenizer learns it learns from the training texts alone."""
    if cfg["keep"] not in ENDS:
        raise UserError(f"data.keep = {cfg['keep']!r}: 'head' or 'tail', the end of a longer text that is kept")
    if not isinstance(cfg["length"], int) or not 1 <= cfg["length"] <= MOST_TOKENS:
        raise UserError(f"data.length = {cfg['length']!r}: from 1 to {MOST_TOKENS:,} tokens")
    clean = normalise.make(cfg["normalise"])
    corpus = labelled_corpora.load(cfg)
    corpus = _cleaned(_folded(corpus, cfg) if cfg["folds"] else _held_out(corpus, cfg), clean)
    encoder = Encoder(_tokenizer(corpus, cfg), clean, cfg["length"], cfg["keep"])
    ids = {name: [encoder.tokenizer.encode(text) for text in part.texts] for name, part in corpus.parts.items()}
    texts = {
        name: Texts([encoder.fit(row) for row in ids[name]], part.labels, encoder.length)
        for name, part in corpus.parts.items()
    }
    train, valid, test = (texts.get(name) for name in ("train", "valid", "test"))
    held = valid or test
    known = baselines(train, held, len(corpus.classes), encoder.size) if held else {}
    return Labelled(train, valid, test, corpus.classes, encoder, corpus.report + _report(corpus, ids, encoder), known)


def _tokenizer(corpus: Corpus, cfg: Mapping[str, Any]) -> tokenizers.Tokenizer:
    options = {key: cfg[key] for key in ("vocab_size", "min_count", "special") if cfg[key] is not None}
    train = "\n".join(corpus.parts["train"].texts)
    # Of the other parts only the tokenizer of characters makes use: it has no token for the unknown.
    rest = "\n".join(text for name, part in corpus.parts.items() if name != "train" for text in part.texts)
    return tokenizers.make(cfg["tokenizer"], train, rest, **options)


def _cleaned(corpus: Corpus, clean: Callable[[str], str]) -> Corpus:
    """Cleaned texts, training texts that are then empty left out; what parts have in common is told."""
    parts = {name: Part([clean(text) for text in part.texts], part.labels) for name, part in corpus.parts.items()}
    texts, labels = parts["train"]
    kept = np.array([bool(text) for text in texts], bool)
    parts["train"] = train = Part([text for text in texts if text], labels[kept])
    if not train.texts:
        raise UserError("no text to train on")
    classes: dict[str, set[int]] = {}
    for text, label in zip(*train, strict=True):
        classes.setdefault(text, set()).add(int(label))
    lines = []
    if repeated := len(train.texts) - len(classes):
        both = sum(len(labels) > 1 for labels in classes.values())
        lines.append(f"repeated {repeated:,} training texts equal another; {both:,} texts have several classes")
    if empty := len(texts) - len(train.texts):
        lines.append(f"empty    {empty:,} training texts, left out")
    for name, part in parts.items():
        if name != "train" and (count := sum(text in classes for text in part.texts)):
            lines.append(f"warning  {count:,} of {len(part.texts):,} {name} texts are training texts, too")
    return corpus._replace(parts=parts, report=corpus.report + lines)


def _held_out(corpus: Corpus, cfg: Mapping[str, Any]) -> Corpus:
    """What no source tells is cut from train, by class and by the hash of the text: valid, and test where files tell none."""
    if cfg["fold"]:
        raise UserError(f"data.fold = {cfg['fold']} needs data.folds")
    parts = dict(corpus.parts)
    wanted = [name for name in ("valid", "test") if name not in parts]
    if "valid" in wanted:
        valid = user_files.option(cfg, "valid_fraction", 0.1)
        test = user_files.option(cfg, "test_fraction", 0.1) if "test" in wanted else 0.0
        cut = _cut(parts["train"], labelled.split(parts["train"].texts, parts["train"].labels, valid, test))
        parts |= {name: cut[name] for name in ("train", *wanted)}
    return corpus._replace(parts={name: part for name, part in parts.items() if part.texts})


def _folded(corpus: Corpus, cfg: Mapping[str, Any]) -> Corpus:
    """Fold `fold` of `folds` of the training and validation texts as test, the rest to train and, in part, to validate.

    A published test set is left alone.
    """
    number, fold = cfg["folds"], cfg["fold"]
    if not isinstance(number, int) or number < 2 or not isinstance(fold, int) or not 0 <= fold < number:
        raise UserError(f"data.fold = {fold}, data.folds = {number}: at least 2 folds, and one of 0 to {number}-1")
    whole = [part for name, part in corpus.parts.items() if name != "test"]
    texts, labels = [t for part in whole for t in part.texts], np.concatenate([part.labels for part in whole])
    fraction = user_files.option(cfg, "valid_fraction", 0.1)
    mine = folds(texts, labels, number) == fold
    rest = Part([t for t, out in zip(texts, mine, strict=True) if not out], labels[~mine])
    parts = _cut(rest, labelled.split(rest.texts, rest.labels, fraction, 0))
    parts["test"] = Part([t for t, out in zip(texts, mine, strict=True) if out], labels[mine])
    line = f"fold     {fold} of 0..{number - 1} is the test part"
    return corpus._replace(parts={k: p for k, p in parts.items() if p.texts}, report=[*corpus.report, line])


def folds(texts: Sequence[str], labels: np.ndarray, number: int) -> np.ndarray:
    """Each text's fold, i64[n] in 0..number-1, as many of each class in each: a pure function of the set of texts.

    A class is ordered by the hash of its texts and cut into runs, so that equal texts share a fold but for one at a cut.
    """
    hashes = np.array([hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts])
    out = np.zeros(len(texts), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        out[rows[np.argsort(hashes[rows], kind="stable")]] = np.arange(len(rows)) * number // len(rows)
    return out


def _cut(part: Part, rows: Mapping[str, np.ndarray]) -> dict[str, Part]:
    return {name: Part([part.texts[i] for i in at], part.labels[at]) for name, at in rows.items()}


def baselines(train: Texts, held: Texts, num_classes: int, vocab_size: int) -> dict[str, float]:
    """Accuracies on `held`: of the commonest class of training, and of multinomial naive Bayes on counts of tokens.

    One is added to every count (McCallum and Nigam 1998); tokens beyond a row's length do not count.
    """

    def counted(part: Texts):
        batch = part.gather(np.arange(len(part)))
        inside = np.arange(part.length) < batch["length"][:, None]
        return np.repeat(np.arange(len(part)), batch["length"]), batch["tokens"][inside]

    prior = np.bincount(train.labels, minlength=num_classes)
    rows, tokens = counted(train)
    counts = np.ones((num_classes, vocab_size))
    np.add.at(counts, (train.labels[rows], tokens), 1)
    weights = np.log(counts / counts.sum(1, keepdims=True))
    rows, tokens = counted(held)
    scores = np.stack([np.bincount(rows, w[tokens], len(held)) for w in weights], 1)
    bayes = (scores + np.log(np.maximum(prior, 1e-9))).argmax(1)
    return {
        "most frequent class": float(np.mean(held.labels == prior.argmax())),
        "naive Bayes": float(np.mean(held.labels == bayes)),
    }


def _report(corpus: Corpus, ids: Mapping[str, list[np.ndarray]], encoder: Encoder) -> list[str]:
    train = corpus.parts["train"]
    counts = np.bincount(train.labels, minlength=len(corpus.classes))
    each = ", ".join(f"{name} {n:,}" for name, n in list(zip(corpus.classes, counts, strict=True))[:12])
    more = f" and {len(corpus.classes) - 12} more" if len(corpus.classes) > 12 else ""
    sizes = ", ".join(f"{len(part.texts):,} {name}" for name, part in corpus.parts.items())
    lengths = np.concatenate([[len(one) for one in found] for found in ids.values()])
    lines = [f"classes  {each}{more} to train", f"split    {sizes}"]
    missing = [name for name, n in zip(corpus.classes, counts, strict=True) if not n]
    lines += user_files.listed("warning  classes with nothing to train on:", missing)
    unk = encoder.tokenizer.special.get("unk")
    unknown = [np.mean(np.concatenate(found) == unk) if unk is not None else 0 for found in ids.values()]
    shares = ", ".join(f"{share:.1%} of {name}" for name, share in zip(ids, unknown, strict=True))
    cut = np.mean(lengths > encoder.length)
    lines.append(f"tokens   vocabulary {encoder.size:,}; unknown {shares}")
    lines.append(
        f"length   {np.median(lengths):.0f} tokens in the middle, {lengths.max():,} at most; {encoder.length} are kept, "
        f"of {cut:.1%} the {encoder.keep}"
    )
    return lines

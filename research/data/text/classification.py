"""Text classification: batches of tokens and labels, and the conversion between a text and a class.

Config: source (`labelled_corpora.SOURCES`), normalise (`normalise.NORMALISERS`), tokenizer and its options (vocab_size,
min_count, special), length (at most so many tokens of a text, T), keep (the head or tail of a longer one) and pad (front: <pad>
tokens before a shorter one, which models read); fold and folds for cross-validation; valid_fraction and test_fraction (0.1) of
train for a part that the source lacks; train_size (train on so many texts), augment and augment_share (`augment.OPERATIONS`),
paraphrases (a file, see paraphrases.py); extra and extra_share (a set of feedback, see feedback_sets.py); buckets (the number of
length buckets, 0: none), batch_size and eval_batch_size.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.core.experiment import Baseline, Codec, Dataset
from research.data import codecs, feedback_sets, further_sets, tokenizers, top, user_files
from research.data.buckets import Bucketed, bounds
from research.data.images import labelled
from research.data.pipeline import Batch, EvalBatches, TrainBatches
from research.data.text import augment, labelled_corpora, normalise, paraphrases
from research.data.text.labelled_corpora import Corpus, Part
from research.data.text.neighbours import neighbours
from research.data.tokenizers.plain import Word
from research.util import home
from research.util.errors import UserError

ENDS = ("head", "tail")
MOST_TOKENS = 1 << 16


class Texts:
    """Tokenized texts in memory, a source for `pipeline.TrainBatches` and for `buckets.Bucketed`."""

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
        columns, indices = np.arange(length or self.length), np.asarray(indices, np.int64)
        lengths = self.lengths[indices]
        positions = np.where(columns < lengths[:, None], self._starts[indices, None] + columns, len(self._flat) - 1)
        return {"tokens": self._flat[positions], "length": lengths.astype(np.int32), "label": self.labels[indices]}


class Augmented:
    """Texts that are changed anew in each epoch and then encoded: a source as `Texts` is."""

    def __init__(self, part: Part, encoder: "Encoder", change: augment.Augment):
        self._part, self._encoder, self._change = part, encoder, change
        self.labels = part.labels.astype(np.int32)

    def __len__(self) -> int:
        return len(self._part.texts)

    def gather(self, indices: np.ndarray, epoch: int) -> Batch:
        rows = [self._encoder.encode(self._change(self._part.texts[i], epoch, int(i))) for i in indices]
        return Texts(rows, self._part.labels[indices], self._encoder.length).gather(np.arange(len(rows)))


def batches(texts: Any, buckets: int, batch_size: int, seed: int | None = None) -> Any:
    """Batches of `batch_size` rows: shuffled and endless with a seed, else one ordered pass.

    With `buckets` above 0, a batch has texts of similar length, padded to the length of its bucket.
    """
    if buckets:
        return Bucketed(texts, bounds(texts.lengths, buckets), 1, seed, batch_size)
    return EvalBatches(texts, batch_size) if seed is None else TrainBatches(texts, batch_size, seed)


@codecs.register("text_encoder")
class Encoder:
    """Text -> at most `length` tokens: cleaned, tokenized, cut, and between `cls` and `sep` if the tokenizer has both.

    With `front` it is exactly `length`: <pad> stands before a shorter text, as Keras' `pad_sequences` has it. A text without
    tokens becomes one `unk`, or a 0 if the tokenizer has none. Raises UserError if `length` is too small, or there is no <pad>.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, normaliser: str, length: int, keep: str, front: bool = False):
        """`normaliser` is a name of `normalise.NORMALISERS`, `keep` one of `ENDS`."""
        special = tokenizer.special
        self.tokenizer, self.normaliser, self.length, self.keep = tokenizer, normaliser, length, keep
        self.clean = normalise.make(normaliser)
        self._ends = [special["cls"], special["sep"]] if {"cls", "sep"} <= special.keys() else []
        self._empty = special.get("unk", 0)
        self.front = front
        if front and "pad" not in special:
            raise UserError(
                "data.pad = 'front': this tokenizer has no <pad>; choose data.tokenizer = 'word' or 'wordpiece'"
            )
        if length <= len(self._ends):
            raise UserError(f"data.length = {length}: at least {len(self._ends) + 1}")

    def encode(self, text: str) -> np.ndarray:
        """i32[t], t in 1..length."""
        return self.fit(self.tokenizer.encode(self.clean(text)))

    def fit(self, ids: np.ndarray) -> np.ndarray:
        """All token ids of a text, i[n] -> the result of `encode`, i32[t], t in 1..length."""
        ids = self._cut(ids) if len(ids) else np.array([self._empty])
        row = np.array([*self._ends[:1], *ids, *self._ends[1:]], np.int32)
        before = self.length - len(row) if self.front else 0
        return np.pad(row, (before, 0), constant_values=self.tokenizer.special.get("pad", 0))

    def _cut(self, tokens: Any) -> Any:
        room = self.length - len(self._ends)
        return tokens[:room] if self.keep == "head" else tokens[max(0, len(tokens) - room) :]

    def words(self, text: str) -> tuple[np.ndarray, list[str]]:
        """The model's tokens of a text, i32[t], and the string of each; for an unknown word, the word itself."""
        ids = self.encode(text)
        strings = [self.tokenizer.decode(ids[i : i + 1]) for i in range(len(ids))]
        if isinstance(self.tokenizer, Word) and (words := self._cut(self.tokenizer.split(self.clean(text)))):
            first = len(ids) - len(words) - len(self._ends[1:])
            strings[first : first + len(words)] = words
        return ids, strings


class TextClassification(Dataset):
    """Batches {"tokens": i32[B, T], "length": i32[B], "label": i32[B]}; `classes` are names, `encoder` tokenizes."""

    def __init__(
        self, parts: Mapping[str, Texts], classes: Sequence[str], encoder: Encoder, report: Sequence[str], *,
        buckets: int, batch_size: int, eval_batch_size: int, seed: int, augmented: Augmented | None = None,
    ):  # fmt: skip
        """`parts` are "train", and "valid", "test" or both, and perhaps "new"; `augmented` is trained on in the place of "train".

        Raises UserError if nothing is held out.
        """
        self.training = parts["train"]
        self.train = batches(augmented or parts["train"], buckets, batch_size, seed)
        held_out = [name for name in ("valid", "test", "new") if name in parts]
        self.evals = {name: batches(parts[name], buckets, eval_batch_size) for name in held_out}
        if not self.evals:
            raise UserError("the data has neither a validation nor a test part; set data.valid_fraction above 0")
        self.classes, self.encoder, self.report = tuple(classes), encoder, report
        self._sizes = {"buckets": buckets, "batch_size": eval_batch_size}
        self.codec, self.tokenizers = TextClass(encoder, self.classes), (encoder.tokenizer,)

    def baselines(self) -> Mapping[str, Baseline]:
        split = next(iter(self.evals))
        train, held_out = self.training, self.evals[split].source
        predictions = {
            "most frequent class": np.bincount(train.labels).argmax(),
            "naive Bayes": naive_bayes(train, held_out, len(self.classes), self.encoder.tokenizer.size),
        }
        return {
            f"{split}/accuracy": Baseline({k: float(np.mean(held_out.labels == p)) for k, p in predictions.items()})
        }

    def eval_batches(self, cfg: Mapping[str, Any]) -> Any:
        corpus = labelled_corpora.load(cfg)
        self.report = [*self.report, *corpus.report]
        numbers = further_sets.class_numbers(corpus.classes, self.classes)
        parts = [corpus.parts[name] for name in further_sets.choose_parts(corpus.parts, cfg["part"])]
        rows = [self.encoder.encode(text) for part in parts for text in part.texts]
        labels = numbers[np.concatenate([part.labels for part in parts])]
        return batches(Texts(rows, labels, self.encoder.length), **self._sizes)


@codecs.register("text_class")
@dataclasses.dataclass(frozen=True)
class TextClass(Codec):
    """A text <-> its class, one of the names `classes`."""

    encoder: Encoder
    classes: tuple[str, ...]

    takes, gives = "text", "class"

    @property
    def inputs(self) -> dict[str, tuple]:
        return {"tokens": (("b", "t"), "int32"), "length": (("b",), "int32")}

    @property
    def constraints(self) -> tuple[str]:
        return (f"t <= {self.encoder.length}",)

    def encode(self, value: str) -> dict[str, np.ndarray]:
        """A text -> {"tokens": i32[1, t], "length": i32[1]}. Raises UserError if it is empty."""
        if not value.strip():
            raise UserError("the text is empty: there is nothing to classify")
        ids = self.encoder.encode(value)
        return {"tokens": ids[None], "length": np.array([len(ids)], np.int32)}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """-> the top-1 class, and the top five with their probabilities."""
        return top.classes(self.classes, outputs["probabilities"][0])

    def handed_on(self, value: Any, decoded: Mapping[str, Any]) -> str:
        return decoded["class"]

    def read(self, file: Path) -> str:
        return user_files.read(file)


def load(cfg: Mapping[str, Any], seed: int) -> TextClassification:
    """The data set of a config's `data` group. A tokenizer is trained on the training texts only."""
    if cfg["keep"] not in ENDS:
        raise UserError(f"data.keep = {cfg['keep']!r}: 'head' or 'tail', the end of a longer text that is kept")
    pad = user_files.option(cfg, "pad", None)  # absent from the configs of earlier runs
    if pad not in (None, "front"):
        raise UserError(f"data.pad = {pad!r}: 'front', or None for none that is read")
    if not isinstance(cfg["length"], int) or not 1 <= cfg["length"] <= MOST_TOKENS:
        raise UserError(f"data.length = {cfg['length']!r}: from 1 to {MOST_TOKENS:,} tokens")
    clean = normalise.make(cfg["normalise"])
    corpus = _corpus(cfg, clean)
    near = _neighbours(corpus, cfg)
    corpus = _few(corpus, cfg, seed)
    others, lines = _paraphrases(corpus, cfg, clean)
    corpus = corpus._replace(report=[*corpus.report, *lines])
    encoder = Encoder(
        _tokenizer(corpus, cfg, near, others), cfg["normalise"], cfg["length"], cfg["keep"], pad == "front"
    )
    corpus = _with_extra(corpus, cfg, clean)  # the vocabulary is as without it, so that earlier weights fit
    ids = {name: [encoder.tokenizer.encode(text) for text in part.texts] for name, part in corpus.parts.items()}
    parts = {
        name: Texts([encoder.fit(text) for text in ids[name]], part.labels, encoder.length)
        for name, part in corpus.parts.items()
    }
    report = corpus.report + _report(corpus, ids, encoder)
    sizes = {key: cfg[key] for key in ("buckets", "batch_size", "eval_batch_size")}
    augmented = None
    if names := _operations(cfg):
        change = augment.Augment(names, user_files.option(cfg, "augment_share", 0.1), near, seed, others)
        augmented = Augmented(corpus.parts["train"], encoder, change)
    return TextClassification(parts, corpus.classes, encoder, report, **sizes, seed=seed, augmented=augmented)


def training_texts(cfg: Mapping[str, Any], seed: int) -> list[str]:
    """The distinct texts that `load` would train on, cleaned and not augmented."""
    return list(dict.fromkeys(_few(_corpus(cfg, normalise.make(cfg["normalise"])), cfg, seed).parts["train"].texts))


def _corpus(cfg: Mapping[str, Any], clean: Callable[[str], str]) -> Corpus:
    corpus = labelled_corpora.load(cfg)
    return _cleaned(_folded(corpus, cfg) if cfg["folds"] else _held_out(corpus, cfg), clean)


def _paraphrases(
    corpus: Corpus, cfg: Mapping[str, Any], clean: Callable[[str], str]
) -> tuple[dict[str, list[str]], list[str]]:
    """The paraphrases of the training texts, if they are an operation, and lines for the report."""
    path, wanted = user_files.option(cfg, "paraphrases", None), augment.PARAPHRASE in _operations(cfg)
    if wanted and path is None:
        raise UserError("data.augment = 'paraphrase': set data.paraphrases to a file that `almanac paraphrase` wrote")
    if path is not None and not wanted:
        raise UserError(f"data.paraphrases = {path}: not read; add 'paraphrase' to data.augment, or leave it None")
    if path is None:
        return {}, []
    return paraphrases.of_texts(home.expanded(path, "data.paraphrases"), corpus.parts["train"].texts, clean)


def _with_extra(corpus: Corpus, cfg: Mapping[str, Any], clean: Callable[[str], str]) -> Corpus:
    """The corpus, to train on the texts of the set of feedback `data.extra` too; those that it holds out are the part new."""
    path = user_files.option(cfg, "extra", None)
    if path is None:
        return corpus
    extra = _cleaned(labelled_corpora.load({"source": "feedback", "path": path}), clean)
    numbers = further_sets.class_numbers(extra.classes, corpus.classes)
    parts = {name: Part(part.texts, numbers[part.labels]) for name, part in extra.parts.items()}
    texts, labels = corpus.parts["train"]
    rows = feedback_sets.repeated(
        len(extra.parts["train"].texts), len(texts), user_files.option(cfg, "extra_share", None)
    )
    ours = _cut(parts["train"], {"train": rows})["train"]
    train = Part([*texts, *ours.texts], np.concatenate([labels, ours.labels]))
    new = {"new": parts["test"]} if "test" in parts else {}
    return corpus._replace(parts={**corpus.parts, "train": train, **new}, report=[*corpus.report, *extra.report])


def _operations(cfg: Mapping[str, Any]) -> tuple[str, ...]:
    """The operations of `data.augment`, checked."""
    names = user_files.option(cfg, "augment", ())
    names = (names,) if isinstance(names, str) else tuple(names)
    share = user_files.option(cfg, "augment_share", None)
    if share is not None and not names:
        raise UserError(f"data.augment_share = {share}: nothing is augmented; set data.augment, or leave it None")
    augment.check(names, 0.1 if share is None else share)
    if names and cfg["buckets"]:
        raise UserError("data.augment changes the length of texts: set data.buckets to 0")
    return names


def _neighbours(corpus: Corpus, cfg: Mapping[str, Any]) -> augment.Neighbours:
    """Neighbours of the training texts' words, if an operation needs them. They use no class, so all texts count."""
    if not set(_operations(cfg)) & set(augment.NEED_NEIGHBOURS):
        return {}
    return neighbours(corpus.parts["train"].texts)


def _few(corpus: Corpus, cfg: Mapping[str, Any], seed: int) -> Corpus:
    """Leaves `train_size` training texts, of every class its share, chosen by hash of seed and text."""
    size = user_files.option(cfg, "train_size", None)
    if size is None:
        return corpus
    texts, labels = corpus.parts["train"]
    if not isinstance(size, int) or not len(corpus.classes) <= size <= len(texts):
        raise UserError(f"data.train_size = {size!r}: from {len(corpus.classes)} to {len(texts):,}, all training texts")
    hashes = np.array([hashlib.sha256(f"{seed} {t}".encode("utf-8", "surrogatepass")).hexdigest() for t in texts])
    place = np.zeros(len(texts))  # of a text in its class, 0..1
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        place[rows[np.argsort(hashes[rows], kind="stable")]] = (np.arange(len(rows)) + 0.5) / len(rows)
    kept = np.sort(np.argsort(place, kind="stable")[:size])
    report = [*corpus.report, f"few      {size:,} of {len(texts):,} training texts are used, chosen by the seed"]
    return corpus._replace(parts={**corpus.parts, **_cut(corpus.parts["train"], {"train": kept})}, report=report)


def _tokenizer(
    corpus: Corpus, cfg: Mapping[str, Any], near: augment.Neighbours, others: Mapping[str, Sequence[str]]
) -> tokenizers.Tokenizer:
    options = {key: cfg[key] for key in ("vocab_size", "min_count")}
    texts = corpus.parts["train"].texts
    new = sorted({other for text in texts for word in text.split() for other in near.get(word, ())})
    new += [other for text in dict.fromkeys(texts) for other in others.get(text, ())]
    train = "\n".join([*texts, *new])  # words that augmentation brings in are no unknown ones
    # Only `char` without special tokens uses the other parts: it has no token for unknown characters.
    held_out = "\n".join(text for name, part in corpus.parts.items() if name != "train" for text in part.texts)
    return tokenizers.make(cfg["tokenizer"], train, held_out, special=cfg["special"] or (), **options)


def _cleaned(corpus: Corpus, clean: Callable[[str], str]) -> Corpus:
    """Cleans all texts and drops empty training texts; reports repeated texts, and those of train in other parts."""
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
    """Adds the parts that the source lacks, cut from train by class and hash of the text: valid, and with it test."""
    if cfg["fold"]:
        raise UserError(f"data.fold = {cfg['fold']} needs data.folds")
    parts = dict(corpus.parts)
    missing = [name for name in ("valid", "test") if name not in parts]
    if "valid" in missing:
        valid = user_files.option(cfg, "valid_fraction", 0.1)
        test = user_files.option(cfg, "test_fraction", 0.1) if "test" in missing else 0.0
        cut = _cut(parts["train"], labelled.split(parts["train"].texts, parts["train"].labels, valid, test))
        parts |= {name: cut[name] for name in ("train", *missing)}
    return corpus._replace(parts={name: part for name, part in parts.items() if part.texts})


def _folded(corpus: Corpus, cfg: Mapping[str, Any]) -> Corpus:
    """Fold `fold` of `folds` of the training and validation texts is the test part; the others are to train and validate.

    A published test part is not used.
    """
    number, fold = cfg["folds"], cfg["fold"]
    if not isinstance(number, int) or number < 2 or not isinstance(fold, int) or not 0 <= fold < number:
        raise UserError(f"data.fold = {fold}, data.folds = {number}: at least 2 folds, and one of 0 to {number}-1")
    pooled = [part for name, part in corpus.parts.items() if name != "test"]
    texts, labels = [t for part in pooled for t in part.texts], np.concatenate([part.labels for part in pooled])
    fraction = user_files.option(cfg, "valid_fraction", 0.1)
    in_test = folds(texts, labels, number) == fold
    others = Part([t for t, out in zip(texts, in_test, strict=True) if not out], labels[~in_test])
    parts = _cut(others, labelled.split(others.texts, others.labels, fraction, 0))
    parts["test"] = Part([t for t, out in zip(texts, in_test, strict=True) if out], labels[in_test])
    line = f"fold     {fold} of 0..{number - 1} is the test part"
    return corpus._replace(parts={k: p for k, p in parts.items() if p.texts}, report=[*corpus.report, line])


def folds(texts: Sequence[str], labels: np.ndarray, number: int) -> np.ndarray:
    """Each text's fold, i64[n] in 0..number-1, stratified by class: a pure function of the multiset of labelled texts.

    A class is sorted by the hashes of its texts and cut into runs: equal texts share a fold unless a cut falls between them.

    >>> np.bincount(folds(["a", "b", "c", "d"], np.array([0, 0, 1, 1]), number=2)).tolist()
    [2, 2]
    """
    hashes = np.array([hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts])
    out = np.zeros(len(texts), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        out[rows[np.argsort(hashes[rows], kind="stable")]] = np.arange(len(rows)) * number // len(rows)
    return out


def _cut(part: Part, rows: Mapping[str, np.ndarray]) -> dict[str, Part]:
    return {name: Part([part.texts[i] for i in indices], part.labels[indices]) for name, indices in rows.items()}


def naive_bayes(train: Texts, texts: Texts, num_classes: int, vocab_size: int) -> np.ndarray:
    """Class predictions i64[n] for `texts` of multinomial naive Bayes on token counts, trained on `train`.

    With add-one smoothing (McCallum and Nigam 1998); padding is not counted.
    """

    def tokens_and_rows(part: Texts) -> tuple[np.ndarray, np.ndarray]:
        batch = part.gather(np.arange(len(part)))
        inside = np.arange(part.length) < batch["length"][:, None]
        return batch["tokens"][inside], np.repeat(np.arange(len(part)), batch["length"])

    tokens, rows = tokens_and_rows(train)
    counts = np.ones((num_classes, vocab_size))
    np.add.at(counts, (train.labels[rows], tokens), 1)
    log_likelihoods = np.log(counts / counts.sum(1, keepdims=True))
    prior = np.bincount(train.labels, minlength=num_classes)
    tokens, rows = tokens_and_rows(texts)
    scores = np.stack([np.bincount(rows, per_token[tokens], len(texts)) for per_token in log_likelihoods], 1)
    return (scores + np.log(np.maximum(prior, 1e-9))).argmax(1)


def _report(corpus: Corpus, ids: Mapping[str, list[np.ndarray]], encoder: Encoder) -> list[str]:
    train = corpus.parts["train"]
    counts = np.bincount(train.labels, minlength=len(corpus.classes))
    each = ", ".join(f"{name} {n:,}" for name, n in list(zip(corpus.classes, counts, strict=True))[:12])
    more = f" and {len(corpus.classes) - 12} more" if len(corpus.classes) > 12 else ""
    sizes = ", ".join(f"{len(part.texts):,} {name}" for name, part in corpus.parts.items())
    lengths = np.array([len(text) for part in ids.values() for text in part])
    lines = [f"classes  {each}{more} to train", f"split    {sizes}"]
    missing = [name for name, n in zip(corpus.classes, counts, strict=True) if not n]
    lines += user_files.listed("warning  classes with nothing to train on:", missing)
    unk = encoder.tokenizer.special.get("unk")
    unknown = [np.mean(np.concatenate(part) == unk) if unk is not None else 0 for part in ids.values()]
    shares = ", ".join(f"{share:.1%} of {name}" for name, share in zip(ids, unknown, strict=True))
    cut = np.mean(lengths > encoder.length)
    lines.append(f"tokens   vocabulary {encoder.tokenizer.size:,}; unknown {shares}")
    lines.append(
        f"length   {np.median(lengths):.0f} tokens in the middle, {lengths.max():,} at most; {encoder.length} are kept, "
        f"of {cut:.1%} the {encoder.keep}"
    )
    return lines

"""Corpora of labelled texts: parts to train on, to validate on and to test on.

Config: source (`SOURCES`). Optional, by source: phrases (sst2), labels (trec), path, text_key, label_key (files).
"""

import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import numpy as np

from research.data import feedback_sets, tfds_records, user_files
from research.data.builders import ag_news as ag_news_builder
from research.data.builders import chinese_reviews as chinese_reviews_builder
from research.data.builders import sst_trees as treebank
from research.data.builders import trec as trec_builder
from research.data.builders import tweeteval_emotion as tweeteval_emotion_builder
from research.data.text import labelled_files
from research.data.text import service_messages as messages
from research.data.text import short_answers as graded
from research.util.errors import UserError, nearest


class Part(NamedTuple):
    """Texts and their class numbers, i[n]."""

    texts: list[str]
    labels: np.ndarray


class Corpus(NamedTuple):
    """Parts by name (train; optionally valid, test, and others for `evals.NAME.part`), class names by number, a report."""

    parts: dict[str, Part]
    classes: tuple[str, ...]
    report: list[str]


SOURCES: dict[str, Callable[[Mapping[str, Any]], Corpus]] = {}


def load(cfg: Mapping[str, Any]) -> Corpus:
    """The corpus `cfg["source"]`. Raises UserError for an unknown source, and if there is only one class."""
    source = cfg["source"]
    if source not in SOURCES:
        raise UserError(f"no source of labelled texts {source!r}{nearest(source, SOURCES)}")
    corpus = SOURCES[source](cfg)
    if len(corpus.classes) < 2 and source != "feedback":  # which adds to others
        raise UserError(f"{source}: one class alone, {corpus.classes[0]!r}; there is nothing to tell apart")
    return corpus


def _source(function: Callable[[Mapping[str, Any]], Corpus]) -> Callable:
    SOURCES[function.__name__] = function
    return function


# Topics of Python's reference by subject; topics of other Python versions that are not listed are left out.
CHAPTERS = {
    "data model": "attribute-access bltin-code-objects bltin-ellipsis-object bltin-null-object bltin-type-objects "
    "callable-types context-managers customization numeric-types objects sequence-types specialattrs specialnames types",
    "debugger": "debugger",
    "expressions": "atom-identifiers atom-literals attribute-references await binary bitwise booleans calls comparisons "
    "conversions dict exprlists in lambda lists operator-summary power shifting slicings subscriptions unary yield",
    "lexis and execution": "dynamic-features exceptions execmodel floating id-classes identifiers imaginary integers naming "
    "numbers strings",
    "standard types": "formatstrings string-methods truth typesfunctions typesmapping typesmethods typesmodules typesseq "
    "typesseq-mutable",
    "statements": "assert assignment async augassign break class compound continue del else for function global if import "
    "nonlocal pass raise return try while with",
}


@_source
def pydoc(cfg: Mapping[str, Any]) -> Corpus:
    """Paragraphs of Python's language reference, as shipped with CPython, classified by chapter.

    Distinct paragraphs of at least eight words, except those in two chapters. They differ a little between versions.
    """
    chapters: dict[str, set[int]] = {}
    for number, names in enumerate(CHAPTERS.values()):
        for paragraph in re.split(r"\n\s*\n", "\n\n".join(topics.get(name, "") for name in names.split())):
            if len(words := paragraph.split()) >= 8:
                chapters.setdefault(" ".join(words), set()).add(number)
    clear = [(text, min(numbers)) for text, numbers in sorted(chapters.items()) if len(numbers) == 1]
    texts, labels = map(list, zip(*clear, strict=True))
    report = [f"source   pydoc: {len(texts):,} paragraphs of the reference of Python {platform.python_version()}"]
    return Corpus({"train": Part(texts, np.array(labels))}, tuple(CHAPTERS), report)


@_source
def short_answers(cfg: Mapping[str, Any]) -> Corpus:
    """Generated answers with their question and rubric, by score 0 to 3: 4,000 / 400 / 400, and 420 to questions unseen."""
    parts = {
        name: Part([answer.text for answer in rows], np.array([answer.score for answer in rows]))
        for name, rows in graded.answers().items()
    }
    return Corpus(parts, tuple(map(str, range(graded.POINTS + 1))), ["source   short_answers: generated, see its file"])


@_source
def sst2(cfg: Mapping[str, Any]) -> Corpus:
    """The Stanford Sentiment Treebank, negative or positive, without neutral sentences: 6,920 / 872 / 1,821.

    With `phrases`, the training part also has every distinct phrase of its sentences, as in Kim 2014: 77,625 texts, of
    98,794 nodes in the treebank. Kim's list has 76,961.
    """
    phrases = bool(user_files.option(cfg, "phrases", False))
    if phrases and cfg["folds"]:
        raise UserError("data.phrases with data.folds: phrases of one sentence would fall into several; leave one out")
    parts = {}
    for name, split in {"train": "train", "valid": "validation", "test": "test"}.items():
        trees = [treebank.phrases(row["tree"].decode("utf-8")) for row in tfds_records.examples("sst_trees", split)]
        rows = [(text, int(label > 2)) for text, label in (tree[-1] for tree in trees) if label != 2]
        if phrases and name == "train":
            sentences = {text for text, _ in rows}
            inner = {text: int(label > 2) for tree in trees for text, label in tree[:-1] if label != 2}
            rows += [(text, label) for text, label in inner.items() if text not in sentences]
        parts[name] = Part([text for text, _ in rows], np.array([label for _, label in rows]))
    report = [f"source   sst_trees: sentences{' and phrases' if phrases else ''} that are not neutral"]
    return Corpus(parts, ("negative", "positive"), report)


@_source
def imdb(cfg: Mapping[str, Any]) -> Corpus:
    """IMDb's film reviews, 25,000 / 25,000; a tenth of train (`valid_fraction`) is for validation."""
    return _records("imdb", ("negative", "positive"))


@_source
def ag_news(cfg: Mapping[str, Any]) -> Corpus:
    """AG's news topics, 120,000 / 7,600; a tenth of train (`valid_fraction`) is for validation."""
    return _records("ag_news", ag_news_builder.CLASSES)


@_source
def ag_news_part(cfg: Mapping[str, Any]) -> Corpus:
    """`ag_news` with 9,999 of its training rows: not comparable with published numbers."""
    return _records("ag_news_part", ag_news_builder.CLASSES)


def _records(name: str, classes: tuple[str, ...], splits: Sequence[str] = ("train", "test")) -> Corpus:
    """The splits of a prepared data set of `text` and `label`; its validation split is the part valid."""
    parts = {}
    for split in splits:
        rows = tfds_records.examples(name, split)
        part = "valid" if split == "validation" else split
        parts[part] = Part([row["text"].decode("utf-8") for row in rows], np.array([row["label"] for row in rows]))
    return Corpus(parts, classes, [f"source   {name}"])


@_source
def tweeteval_emotion(cfg: Mapping[str, Any]) -> Corpus:
    """Tweets by emotion, 3,257 / 374 / 1,421."""
    return _records("tweeteval_emotion", tweeteval_emotion_builder.CLASSES, ("train", "validation", "test"))


@_source
def chinese_reviews(cfg: Mapping[str, Any]) -> Corpus:
    """Chinese shop reviews, 17,321 without repeats; a tenth each (`valid_fraction`, `test_fraction`) is held out."""
    records = tfds_records.examples("chinese_reviews", "train")
    rows, both = without_repeats([(row["text"].decode("utf-8"), int(row["label"])) for row in records])
    report = [
        f"source   chinese_reviews: {len(rows):,} of {len(records):,} lines; left out are "
        f"{len(records) - len(rows) - both:,} that repeat another or are empty, and {both:,} that are of both classes"
    ]
    texts, labels = map(list, zip(*rows, strict=True))
    return Corpus({"train": Part(texts, np.array(labels))}, chinese_reviews_builder.CLASSES, report)


def without_repeats(rows: Sequence[tuple[str, int]]) -> tuple[list[tuple[str, int]], int]:
    """Rows (text, label) -> the first of those whose letters, characters and digits are the same, but none that has no such
    and none of texts that are of several classes; and the number of rows of these.

    >>> without_repeats([("好！", 1), ("好", 1), ("差", 0), ("...", 0), ("行", 0), ("行 ", 1)])
    ([('好！', 1), ('差', 0)], 2)
    """
    groups: dict[str, list[tuple[str, int]]] = {}
    for text, label in rows:
        groups.setdefault("".join(filter(str.isalnum, text)), []).append((text, label))
    clear = {key: group for key, group in groups.items() if len({label for _, label in group}) == 1}
    return [group[0] for key, group in clear.items() if key], len(rows) - sum(map(len, clear.values()))


# Written for this file: three to train on and, as Keras' validation_split=.2 has it, the last to validate on.
TITLES = (
    ("主队加时赛逆转对手夺得冠军", 0),
    ("央行宣布下调存款准备金率", 1),
    ("女排三比零轻取客队晋级决赛", 0),
    ("两家银行公布全年利润增长", 1),
)


@_source
def chinese_titles(cfg: Mapping[str, Any]) -> Corpus:
    """Four Chinese news titles, sports or finance: too few to learn from, enough to memorise."""
    texts, labels = [text for text, _ in TITLES], np.array([label for _, label in TITLES])
    parts = {"train": Part(texts[:3], labels[:3]), "valid": Part(texts[3:], labels[3:])}
    return Corpus(parts, ("sports", "finance"), ["source   chinese_titles: four titles"])


@_source
def service_messages(cfg: Mapping[str, Any]) -> Corpus:
    """Generated messages to a shop's service, calm or unhappy, 24,000 / 600 / 1,200."""
    parts = {}
    for part in messages.SIZES:
        rows = messages.draw(part)
        parts[part] = Part([row.text for row in rows], np.array([int(row.unhappy) for row in rows]))
    return Corpus(parts, messages.CLASSES, ["source   service_messages: generated"])


@_source
def trec(cfg: Mapping[str, Any]) -> Corpus:
    """Questions by answer type, 5,452 / 500; `labels` is coarse (6) or fine (50). A tenth of train is for validation."""
    level = user_files.option(cfg, "labels", "coarse")
    if level not in ("coarse", "fine"):
        raise UserError(f"data.labels = {level!r}: 'coarse' or 'fine'")
    examples = {split: tfds_records.examples("trec", split) for split in ("train", "test")}
    names = {
        split: [trec_builder.COARSE[row["coarse"]] if level == "coarse" else row["fine"].decode() for row in rows]
        for split, rows in examples.items()
    }
    classes = tuple(sorted({name for part in names.values() for name in part}))
    parts = {
        split: Part([row["text"].decode("utf-8") for row in rows], np.array([classes.index(n) for n in names[split]]))
        for split, rows in examples.items()
    }
    return Corpus(parts, classes, [f"source   trec: {level} classes"])


@_source
def feedback(cfg: Mapping[str, Any]) -> Corpus:
    """A set of feedback (`feedback_sets`): texts to train on, and as the test part those held out."""
    data = feedback_sets.read(user_files.stem(cfg), "text")
    parts = {
        name: Part([row.value for row in rows], np.array([data.classes.index(row.label) for row in rows]))
        for name, rows in data.parts.items()
        if rows
    }
    return Corpus(parts, data.classes, data.report)


@_source
def files(cfg: Mapping[str, Any]) -> Corpus:
    """The user's own texts: see `labelled_files`. Parts that are not given are cut from train by class."""
    rows, lines = labelled_files.read(cfg)
    classes, labels = np.unique([row.label for row in rows], return_inverse=True)
    row_parts = [row.part or "train" for row in rows]
    parts = {}
    for name in ("train", "valid", "test"):
        indices = np.array([i for i, part in enumerate(row_parts) if part == name], np.int64)
        if len(indices):
            parts[name] = Part([rows[i].text for i in indices], labels[indices])
    if "train" not in parts:
        raise UserError(f"data.path = {cfg['path']}: no text to train on")
    report = [f"source   {cfg['path']}: {len(rows):,} texts", *lines]
    return Corpus(parts, tuple(map(str, classes)), report)

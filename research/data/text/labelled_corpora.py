"""Corpora of labelled texts: parts to train on, to validate on and to test on.

Config: source (`SOURCES`). By source, where wanted: phrases (sst2), labels (trec), path, text_key, label_key (files).
"""

import platform
import re
from collections.abc import Callable, Mapping
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import numpy as np

from research.data import tfds_records, user_files
from research.data.builders import ag_news as ag_news_builder
from research.data.builders import sst_trees as treebank
from research.data.builders import trec as trec_builder
from research.data.text import labelled_files
from research.util.errors import UserError, nearest


class Part(NamedTuple):
    """Texts and the numbers of their classes, i[n]."""

    texts: list[str]
    labels: np.ndarray


class Corpus(NamedTuple):
    """Parts by name (train, and perhaps valid and test), the classes in the order of their numbers, a report."""

    parts: dict[str, Part]
    classes: tuple[str, ...]
    report: list[str]


SOURCES: dict[str, Callable[[Mapping[str, Any]], Corpus]] = {}


def load(cfg: Mapping[str, Any]) -> Corpus:
    """The corpus `cfg["source"]`."""
    source = cfg["source"]
    if source not in SOURCES:
        raise UserError(f"no source of labelled texts {source!r}{nearest(source, SOURCES)}")
    found = SOURCES[source](cfg)
    if len(found.classes) < 2:
        raise UserError(f"{source}: one class alone, {found.classes[0]!r}; there is nothing to tell apart")
    return found


def _source(function: Callable[[Mapping[str, Any]], Corpus]) -> Callable:
    SOURCES[function.__name__] = function
    return function


# Topics of Python's reference by what they are about; a topic of another Python version that is not here is left out.
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
    """Paragraphs of Python's language reference, as CPython carries it: of which chapter is each?

    Those of eight words or more, once each; what stands in two chapters is left out. Differs a little between versions.
    """
    of: dict[str, set[int]] = {}
    for number, names in enumerate(CHAPTERS.values()):
        for paragraph in re.split(r"\n\s*\n", "\n\n".join(topics.get(name, "") for name in names.split())):
            if len(words := paragraph.split()) >= 8:
                of.setdefault(" ".join(words), set()).add(number)
    clear = [(text, min(numbers)) for text, numbers in sorted(of.items()) if len(numbers) == 1]
    texts, labels = map(list, zip(*clear, strict=True))
    report = [f"source   pydoc: {len(texts):,} paragraphs of the reference of Python {platform.python_version()}"]
    return Corpus({"train": Part(texts, np.array(labels))}, tuple(CHAPTERS), report)


@_source
def sst2(cfg: Mapping[str, Any]) -> Corpus:
    """The Stanford Sentiment Treebank, negative or positive, neutral ones left out: 6,920 / 872 / 1,821 sentences.

    With `phrases`, training has every phrase of its sentences, too, once each, as Kim 2014 trains: 77,625 texts, where the
    treebank has 98,794 such nodes. Kim's own list had 76,961.
    """
    phrases = bool(user_files.option(cfg, "phrases", False))
    if phrases and cfg["folds"]:
        raise UserError("data.phrases with data.folds: phrases of one sentence would fall into several; leave one out")
    parts = {}
    for name, split in {"train": "train", "valid": "validation", "test": "test"}.items():
        trees = [treebank.phrases(row["tree"].decode("utf-8")) for row in tfds_records.examples("sst_trees", split)]
        found = [(text, int(label > 2)) for text, label in (tree[-1] for tree in trees) if label != 2]
        if phrases and name == "train":
            seen = {text for text, _ in found}
            inner = {text: int(label > 2) for tree in trees for text, label in tree[:-1] if label != 2}
            found += [(text, label) for text, label in inner.items() if text not in seen]
        parts[name] = Part([text for text, _ in found], np.array([label for _, label in found]))
    report = [f"source   sst_trees: sentences{' and phrases' if phrases else ''} that are not neutral"]
    return Corpus(parts, ("negative", "positive"), report)


@_source
def imdb(cfg: Mapping[str, Any]) -> Corpus:
    """IMDb's film reviews, 25,000 / 25,000; a tenth of train (`valid_fraction`) validates."""
    return _records("imdb", ("negative", "positive"))


@_source
def ag_news(cfg: Mapping[str, Any]) -> Corpus:
    """AG's news topics, 120,000 / 7,600; a tenth of train (`valid_fraction`) validates."""
    return _records("ag_news", ag_news_builder.CLASSES)


@_source
def ag_news_part(cfg: Mapping[str, Any]) -> Corpus:
    """The same with 9,999 of its training rows: not for published numbers."""
    return _records("ag_news_part", ag_news_builder.CLASSES)


def _records(name: str, classes: tuple[str, ...]) -> Corpus:
    parts = {}
    for split in ("train", "test"):
        rows = tfds_records.examples(name, split)
        parts[split] = Part([row["text"].decode("utf-8") for row in rows], np.array([row["label"] for row in rows]))
    return Corpus(parts, classes, [f"source   {name}"])


@_source
def trec(cfg: Mapping[str, Any]) -> Corpus:
    """Questions by what they ask for, 5,452 / 500; `labels` is coarse (6) or fine (50). A tenth of train validates."""
    level = user_files.option(cfg, "labels", "coarse")
    if level not in ("coarse", "fine"):
        raise UserError(f"data.labels = {level!r}: 'coarse' or 'fine'")
    found = {split: tfds_records.examples("trec", split) for split in ("train", "test")}
    names = {
        split: [trec_builder.COARSE[row["coarse"]] if level == "coarse" else row["fine"].decode() for row in rows]
        for split, rows in found.items()
    }
    classes = tuple(sorted({name for part in names.values() for name in part}))
    parts = {
        split: Part([row["text"].decode("utf-8") for row in rows], np.array([classes.index(n) for n in names[split]]))
        for split, rows in found.items()
    }
    return Corpus(parts, classes, [f"source   trec: {level} classes"])


@_source
def files(cfg: Mapping[str, Any]) -> Corpus:
    """The user's own texts: see `labelled_files`. Parts that they do not tell are cut from train by class."""
    rows, faults = labelled_files.read(cfg)
    classes, labels = np.unique([row.label for row in rows], return_inverse=True)
    told = [row.part or "train" for row in rows]
    parts = {}
    for name in ("train", "valid", "test"):
        at = np.array([i for i, part in enumerate(told) if part == name], np.int64)
        if len(at):
            parts[name] = Part([rows[i].text for i in at], labels[at])
    if "train" not in parts:
        raise UserError(f"data.path = {cfg['path']}: no text to train on")
    report = [f"source   {cfg['path']}: {len(rows):,} texts", *user_files.listed("skipped ", faults)]
    return Corpus(parts, tuple(map(str, classes)), report)

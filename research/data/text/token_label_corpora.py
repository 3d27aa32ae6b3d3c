"""Corpora of words with labels: parts to train on, to validate on and to test on.

Config: source (`SOURCES`). Of the source conll: path, scheme, valid_fraction.
"""

import dataclasses
import platform
import re
from collections.abc import Callable, Mapping
from functools import partial
from pydoc_data.topics import topics
from typing import Any, NamedTuple

from research.data import tfds_records
from research.data.builders import sst_trees as treebank
from research.data.text import conll as conll_files
from research.data.text import peoples_daily, token_label_rules
from research.data.text.token_label_rules import Rule, Words
from research.util.errors import UserError, nearest


class Spans(NamedTuple):
    """What the spans of labels are, in a corpus that has some."""

    name: str  # of their metrics: NAME_precision, NAME_recall, NAME_f1
    joint: str  # what stands between the words of one


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Texts by part ("train", "valid" and, if there is one, "test"); `classes[label]` is a label's name.

    spans  what spans the labels form, if they do; label_spans.py says how
    ends   words behind which a text that is longer than a row is best cut
    unit   of a text that is to be labelled, of `UNITS`
    rules  the rules that are baselines
    """

    parts: dict[str, list[Words]]
    classes: tuple[str, ...]
    report: list[str]
    spans: Spans | None = None
    ends: tuple[str, ...] = ()
    unit: str = "word"
    rules: Mapping[str, Rule] = dataclasses.field(default_factory=lambda: token_label_rules.RULES)


def _characters(text: str) -> list[str]:
    return [character for character in text if not character.isspace()]


UNITS: dict[str, Callable[[str], list[str]]] = {"word": str.split, "character": _characters}
SOURCES: dict[str, Callable[[Mapping[str, Any]], Corpus]] = {}


def load(cfg: Mapping[str, Any]) -> Corpus:
    """The corpus `cfg["source"]`. Raises UserError for an unknown source, and if there is only one label."""
    source = cfg["source"]
    if source not in SOURCES:
        raise UserError(f"no source of labelled words {source!r}{nearest(source, SOURCES)}")
    corpus = SOURCES[source](cfg)
    if len(corpus.classes) < 2:
        raise UserError(f"{source}: one label alone, {corpus.classes[0]!r}; there is nothing to tell apart")
    return corpus


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


_PAUSES = tuple("，。！？；：")  # noqa: RUF001


@_source
def peoples_daily_segmentation(cfg: Mapping[str, Any]) -> Corpus:
    """Words of Chinese: whether a character is the first, a middle or the last one of its word, or all of it (B, M, E, S)."""
    loaded, report = peoples_daily.load()
    classes = ("B", "M", "E", "S")
    parts = {
        name: [
            [(c, classes.index(label)) for c, label in peoples_daily.characters([word for word, _ in paragraph])]
            for paragraph in paragraphs
        ]
        for name, paragraphs in loaded.items()
    }
    rules = token_label_rules.RULES | {"longest match": partial(token_label_rules.longest_match, classes=classes)}
    return Corpus(parts, classes, report, Spans("word", ""), _PAUSES, "character", rules)


@_source
def peoples_daily_pos(cfg: Mapping[str, Any]) -> Corpus:
    """The part of speech of each word of the People's Daily: the corpus' main tags, a letter each."""
    loaded, report = peoples_daily.load()
    tags = [tag for paragraphs in loaded.values() for paragraph in paragraphs for _, tag in paragraph]
    classes = tuple(sorted(set(map(peoples_daily.main_tag, tags))))
    parts = {
        name: [
            [(word, classes.index(peoples_daily.main_tag(tag))) for word, tag in paragraph] for paragraph in paragraphs
        ]
        for name, paragraphs in loaded.items()
    }
    return Corpus(
        parts, classes, [*report, f"tags     {len(set(tags))} of the corpus, {len(classes)} main ones"], ends=_PAUSES
    )


_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")


@_source
def conll(cfg: Mapping[str, Any]) -> Corpus:
    """The user's own files of words and labels in columns: see `conll.py`. Classes are the labels of all parts.

    If most words to train on begin with a Chinese character, no space stands between the words of a span; if all are one
    character, a text is labelled by character.
    """
    loaded, scheme, report = conll_files.read(cfg)
    labels = {line.label for sentences in loaded.values() for sentence in sentences for line in sentence}
    classes = tuple(sorted(labels, key=lambda label: (label != "O", label)))
    number = {label: i for i, label in enumerate(classes)}
    parts = {
        name: [[(line.word, number[line.label]) for line in sentence] for sentence in sentences]
        for name, sentences in loaded.items()
    }
    known = {tuple(word for word, _ in words) for words in parts["train"]}
    for name, texts in parts.items():
        if name != "train" and (count := sum(tuple(word for word, _ in words) in known for words in texts)):
            report.append(f"warning  {count:,} of {len(texts):,} sentences of {name} are sentences of train, too")
    words = [word for sentence in parts["train"] for word, _ in sentence]
    joint = "" if 2 * sum(bool(_HAN.match(word)) for word in words) > len(words) else " "
    unit = "word" if joint or max(map(len, words)) > 1 else "character"
    return Corpus(parts, classes, report, Spans("span", joint) if scheme != "none" else None, unit=unit)

"""Corpora: documents to train on, to validate on and, where a split is published, to test on.

Config: source (`SOURCES`); for `files` also path and, optionally, valid_fraction (0.1), text_key ("text"),
clean (False) and deduplicate (None, "exact", "near"): see `research.data.text.clean`.
"""

import dataclasses
import itertools
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from research.data import tfds_records, user_files
from research.data.text import clean
from research.util.errors import UserError, nearest

SUFFIXES = (".txt", ".md", ".jsonl")


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Documents of each part; a part's text is its documents joined by `between`. `report` has lines to print.

    `test` is None unless the source has a published test part. `marks` are words of the text that stand for special tokens:
    {word: its name in `tokenizers.SPECIAL`}, None for a word to be dropped if the text is not one sequence of words.
    `uncut` has all documents where the parts were cut out of them, which may split some.
    """

    train: list[str]
    valid: list[str]
    report: list[str]
    test: list[str] | None = None
    between: str = "\n\n"
    marks: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    uncut: list[str] | None = None

    @property
    def documents(self) -> list[str]:
        """All documents, of every part."""
        return [*self.train, *self.valid, *(self.test or [])] if self.uncut is None else self.uncut

    def text(self, part: str) -> str:
        """The text of "train", "valid" or "test"; empty if there is no such part."""
        return self.between.join(getattr(self, part) or [])


SOURCES: dict[str, Callable[[Mapping[str, Any]], Corpus]] = {}


def load(cfg: Mapping[str, Any]) -> Corpus:
    """The documents of `cfg["source"]`. Raises UserError for an unknown source, and if train or valid is empty."""
    source = cfg["source"]
    if source not in SOURCES:
        raise UserError(f"no text source {source!r}{nearest(source, SOURCES)}")
    for key in ("clean", "deduplicate"):
        if source != "files" and (value := user_files.option(cfg, key, None)):
            raise UserError(f"data.{key} = {value!r} is for the source 'files'; {source!r} is used as it was published")
    corpus = SOURCES[source](cfg)
    train, valid = (len(corpus.text(part)) for part in ("train", "valid"))
    if not train or not valid:
        raise UserError(f"{source}: {train:,} characters to train, {valid:,} to validate")
    return corpus


def _source(function: Callable[[Mapping[str, Any]], Corpus]) -> Callable:
    SOURCES[function.__name__] = function
    return function


@_source
def pydoc(cfg: Mapping[str, Any]) -> Corpus:
    """Python's language reference as shipped with CPython, topics sorted by name.

    The last 10 % of the characters are for validation. The text differs a little between Python versions.
    """
    documents = [topics[name] for name in sorted(topics)]
    report = [f"source   pydoc: {len(topics)} topics of Python {platform.python_version()}"]
    return Corpus(*_cut(documents, 0.1), report, uncut=documents)


@_source
def tiny_shakespeare(cfg: Mapping[str, Any]) -> Corpus:
    """Karpathy's 1,115,394 characters; nanoGPT's split: the last 10 % are for validation."""
    splits = ("train", "validation", "test")
    text = "".join(tfds_records.load("tiny_shakespeare", s)[0]["text"].decode("utf-8") for s in splits)
    return Corpus(*_cut([text], 0.1), [f"source   tiny_shakespeare: {len(text):,} characters"], uncut=[text])


@_source
def wikitext2(cfg: Mapping[str, Any]) -> Corpus:
    """WikiText-2, word level (Merity et al. 2017), with its published parts; a document is an article.

    Every line ends in the word `<eos>`, which the published perplexities count. The title of an article is the line
    ` = Title = <eos>`, with an empty line before and after.
    """
    splits = {"train": "train", "valid": "validation", "test": "test"}
    parts = {
        part: [row["text"].decode("utf-8").replace("\n", "<eos>\n") for row in tfds_records.load("wikitext2", split)]
        for part, split in splits.items()
    }
    counts = ", ".join(f"{len(documents):,} in {part}" for part, documents in parts.items())
    report, marks = [f"source   wikitext2: articles, {counts}"], {"<unk>": "unk", "<eos>": None}
    return Corpus(parts["train"], parts["valid"], report, parts["test"], between="", marks=marks)


@_source
def files(cfg: Mapping[str, Any]) -> Corpus:
    """The user's own UTF-8 text: a file, or the .txt, .md and .jsonl files of a folder, sorted by name.

    Hidden files and folders are skipped. A document is a file, or a line of a .jsonl: an object with its text under
    `text_key`. Documents are cleaned and deduplicated over all files, and then the last `valid_fraction` of every file
    (characters, or lines of a .jsonl) is for validation: no validation document has a duplicate in training, and adding a
    file changes the split of another file only by removing duplicates.
    """
    root = user_files.root(cfg)
    fraction = user_files.option(cfg, "valid_fraction", 0.1)
    if not 0 < fraction < 1:
        raise UserError(f"data.valid_fraction = {fraction}: above 0 and below 1")
    paths, skipped = ([root], []) if root.is_file() else user_files.listing(root)
    others = {path for path in paths if path != root and path.suffix.lower() not in SUFFIXES}
    rows: list[tuple[Path, str, str]] = []  # file, the document's name, its text
    for path in paths:
        if path in others:
            continue
        name = path.relative_to(root).as_posix() if path != root else path.name
        try:
            if _is_table(path):
                lines, faults = _read_lines(path, user_files.option(cfg, "text_key", "text"))
                skipped += [f"{name} {fault}" for fault in faults]
                rows += [(path, f"{name} {place}", text) for place, text in lines]
            else:
                rows.append((path, name, _read(path)))
        except user_files.Unreadable as error:
            skipped.append(f"{name}: {error}")
    if not rows:
        why = skipped[0] if skipped else f"no {' '.join(SUFFIXES)} file"
        raise UserError(f"data.path = {root}: no text found ({why})")
    report = [f"source   {root}: {len({path for path, *_ in rows})} of {len(paths)} files"]
    report += [*user_files.ignored(sorted(others), SUFFIXES), *user_files.listed("skipped ", skipped)]
    options = (user_files.option(cfg, key, None) for key in ("clean", "deduplicate"))
    kept, texts, changes = clean.documents([name for _, name, _ in rows], [text for *_, text in rows], *options)
    return _split([rows[i][0] for i in kept], texts, fraction, report + changes)


def _split(paths: list[Path], texts: list[str], fraction: float, report: list[str]) -> Corpus:
    """Holds out the end of every file: of the lines of a .jsonl, or of another file's text."""
    train: list[str] = []
    valid: list[str] = []
    for path, group in itertools.groupby(zip(paths, texts, strict=True), lambda pair: pair[0]):
        rows = [text for _, text in group]
        keep = len(rows) - round(len(rows) * fraction)
        parts = (rows[:keep], rows[keep:]) if _is_table(path) else _cut(rows, fraction)
        train += filter(None, parts[0])
        valid += filter(None, parts[1])
    return Corpus(train, valid, report, uncut=texts)


def _cut(documents: list[str], fraction: float, between: str = Corpus.between) -> tuple[list[str], list[str]]:
    """The documents before and after the last `fraction` of the joined text's characters; one document may be split."""
    at = int((sum(map(len, documents)) + len(between) * (len(documents) - 1)) * (1 - fraction))
    for i, document in enumerate(documents):
        if at <= len(document):
            return [*documents[:i], document[:at]], [document[at:], *documents[i + 1 :]]
        if at < len(document) + len(between):  # in the separator
            gap = at - len(document)
            after = between[gap:] + documents[i + 1]
            return [*documents[:i], document + between[:gap]], [after, *documents[i + 2 :]]
        at -= len(document) + len(between)
    return documents, []


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".jsonl"


def _read(path: Path) -> str:
    """A file's text. Raises `user_files.Unreadable` if it cannot be read, or is empty."""
    text = user_files.text(path)
    if not text.strip():
        raise user_files.Unreadable("empty")
    return text


def _read_lines(path: Path, key: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The texts of a .jsonl file as (place, text), and faults of its other lines. Raises Unreadable if it has none."""
    rows, faults = [], []
    for place, row in user_files.json_lines(_read(path)):
        text = row if isinstance(row, str) else row.get(key)
        if isinstance(row, str):
            faults.append(f"{place}: {row}")
        elif not isinstance(text, str):
            faults.append(f"{place}: no text under {key!r}")
        elif not user_files.whole_characters(text):
            faults.append(f"{place}: half a surrogate pair")
        elif not text.strip():
            faults.append(f"{place}: empty")
        else:
            rows.append((place, text))
    if not rows:
        raise user_files.Unreadable(faults[0] if faults else "empty")
    return rows, faults

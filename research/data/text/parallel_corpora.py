"""Parallel text: source lines and their targets, in parts to train, validate and test on.

Config: source (`SOURCES`); pair, the languages by the data's names, as "en-de", or None for a source's first and for a .tsv; for
`files` also path and, if there is no validation part, valid_fraction (0.1).
"""

import csv
import dataclasses
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from research.data import download, tfds_records, user_files
from research.data.text.line_forms import BytePairs, Form, Plain
from research.util.errors import UserError, nearest

PARTS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Lines:
    """Line i of `target` is the translation of line i of `source`; `raw` are the untokenised targets if `target` is tokenised."""

    source: list[str]
    target: list[str]
    raw: list[str] | None = None

    def __len__(self) -> int:
        return len(self.source)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """`parts` by name (`PARTS`), at least train and valid.

    form        of the lines
    directions  {"en_de": a corpus} of each way, where the corpus has several (`directions.both`)
    """

    parts: Mapping[str, Lines]
    report: list[str]
    form: Form = Plain()
    directions: Mapping[str, "Corpus"] = dataclasses.field(default_factory=dict)


SOURCES: dict[str, Callable[[Mapping[str, Any]], Corpus]] = {}


def load(cfg: Mapping[str, Any]) -> Corpus:
    """The corpus `cfg["source"]`. Raises UserError for an unknown source, and if train or valid has no line."""
    source = cfg["source"]
    if source not in SOURCES:
        raise UserError(f"no parallel source {source!r}{nearest(source, SOURCES)}")
    corpus = SOURCES[source](cfg)
    for part in ("train", "valid"):
        if not len(corpus.parts[part]):
            raise UserError(f"{source}: no line in {part}")
    sizes = ", ".join(f"{len(lines):,} to {name}" for name, lines in corpus.parts.items())
    return dataclasses.replace(corpus, report=[*corpus.report, f"pairs    {sizes}"])


def _source(function: Callable[[Mapping[str, Any]], Corpus]) -> Callable:
    SOURCES[function.__name__] = function
    return function


_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def in_words(n: int) -> str:
    """The English words of a number in 0..999,999.

    >>> in_words(121_000)
    'one hundred twenty one thousand'
    """
    if n >= 1000:
        remainder = f" {in_words(n % 1000)}" if n % 1000 else ""
        return f"{in_words(n // 1000)} thousand{remainder}"
    if n >= 100:
        remainder = f" {in_words(n % 100)}" if n % 100 else ""
        return f"{_SMALL[n // 100]} hundred{remainder}"
    if n >= 20:
        return _TENS[n // 10 - 2] + (f" {_SMALL[n % 10]}" if n % 10 else "")
    return _SMALL[n]


@_source
def numbers(cfg: Mapping[str, Any]) -> Corpus:
    """Synthetic: the digits of a number and its English words, with pair = "digits-words" or "words-digits".

    Distinct numbers below 10^k, k uniform in 3..6, drawn from a fixed seed: 500 to validate, 500 to test, and the other 20,000 at
    most to train.
    """
    first, _ = _pair(cfg, "digits-words", "words-digits")
    rng = np.random.default_rng(0)
    drawn = dict.fromkeys(int(rng.integers(10**k)) for k in rng.integers(3, 7, size=21_000))
    held_out, train = list(drawn)[:1000], list(drawn)[1000:21_000]

    def lines(values: list[int]) -> Lines:
        sides = [" ".join(str(n)) for n in values], [in_words(n) for n in values]
        return Lines(*(sides if first == "digits" else sides[::-1]))

    parts = {"train": lines(train), "valid": lines(held_out[:500]), "test": lines(held_out[500:])}
    return Corpus(parts, ["source   numbers: synthetic pairs, a number's digits and its English words"])


@_source
def multi30k_bpe(cfg: Mapping[str, Any]) -> Corpus:
    """Wu et al. 2021's published input, tokenised, lower-cased and in byte pairs; `raw` are Multi30k's own lines."""
    from research.data.builders import multi30k_bpe as builder

    first, second = _pair(cfg, "en-de", "de-en")
    parts = {}
    for part, split in _MULTI30K.items():
        pieces = _read("multi30k_bpe", split)
        raw = None if part == "train" else _read("multi30k", split)[second]
        parts[part] = Lines(pieces[first], pieces[second], raw)
    return Corpus(
        parts,
        ["source   multi30k_bpe: tokenised, lower-cased, joint byte pairs; valid, and test of 2016"],
        BytePairs(builder.merges(), first, second),
    )


@_source
def multi30k(cfg: Mapping[str, Any]) -> Corpus:
    """Multi30k as untokenised text; valid, and the test of 2016."""
    first, second = _pair(cfg, "en-de", "de-en")
    texts = {part: _read("multi30k", split) for part, split in _MULTI30K.items()}
    parts = {part: Lines(lines[first], lines[second]) for part, lines in texts.items()}
    return Corpus(parts, ["source   multi30k: raw text; valid, and test of 2016"])


_MULTI30K = {"train": "train", "valid": "validation", "test": "test_2016"}


def _read(name: str, split: str) -> dict[str, list[str]]:
    rows = tfds_records.examples(name, split)
    return {language: [row[language].decode("utf-8") for row in rows] for language in rows[0]}


@_source
def ag_news_titles(cfg: Mapping[str, Any]) -> Corpus:
    """Summaries: the description of a news item and its title, from 9,999 training rows of AG News.

    The last tenth of them is the validation part; the test part is the first 1,000 rows of the official test set.
    """
    from research.data.builders.ag_news_part import AgNewsPart

    _pair(cfg, "description-title")
    paths = download.fetch(AgNewsPart.FOLDER, AgNewsPart.FILES)
    splits = []
    for file in AgNewsPart.FILES:
        rows = list(csv.reader(io.StringIO(download.read(paths[file.name]).decode("utf-8"), newline="")))
        splits.append(Lines([row[2] for row in rows], [row[1] for row in rows]))
    train, test = splits
    at = len(train) - len(train) // 10
    parts = {
        "train": Lines(train.source[:at], train.target[:at]),
        "valid": Lines(train.source[at:], train.target[at:]),
        "test": Lines(test.source[:1000], test.target[:1000]),
    }
    return Corpus(
        parts, ["source   ag_news_titles: descriptions of news and their titles; 9,999 of 120,000 training rows"]
    )


@_source
def ag_news_summaries(cfg: Mapping[str, Any]) -> Corpus:
    """As ag_news_titles, of more rows, without markup and without repetitions, in parts by the titles' hashes."""
    from research.data.text import news_titles

    _pair(cfg, "description-title")
    return news_titles.summaries()


@_source
def files(cfg: Mapping[str, Any]) -> Corpus:
    """The user's own UTF-8 text, with pair = "SOURCE-TARGET" naming the files' suffixes. `path` is one of:

    a folder with train.SOURCE, train.TARGET and optionally valid.* (or val, validation, dev) and test.*; the common stem of
    two files, PATH.SOURCE and PATH.TARGET; or a .tsv file with a source, a tab and its target per line.
    """
    report: list[str] = []
    root = user_files.stem(cfg)
    if root.is_dir():
        parts, report = _folder(root, cfg)
    elif root.suffix.lower() == ".tsv":
        parts = {"train": _tsv(root)}
    else:
        parts = {"train": _aligned(root, cfg)}
    fraction = user_files.option(cfg, "valid_fraction", 0.1)
    if "valid" not in parts:
        if not 0 < fraction < 1:
            raise UserError(f"data.valid_fraction = {fraction}: above 0 and below 1")
        lines = parts["train"]
        at = len(lines) - round(len(lines) * fraction)
        parts["train"] = Lines(lines.source[:at], lines.target[:at])
        parts["valid"] = Lines(lines.source[at:], lines.target[at:])
    return Corpus({part: parts[part] for part in PARTS if part in parts}, [f"source   {root}", *report])


def _folder(root: Path, cfg: Mapping[str, Any]) -> tuple[dict[str, Lines], list[str]]:
    """The parts of a folder, and a line on its other files. Raises UserError if a part has one side, or two names."""
    stems: dict[str, Path] = {"train": root / "train"}
    for name, part in user_files.PARTS.items():
        if not any(map(os.path.lexists, _paths(root / name, cfg))):  # a link to nothing is refused when it is read
            continue
        if part in stems and stems[part].name != name:
            raise UserError(f"{root} has the part {part} as {stems[part].name}.* and as {name}.*; remove one of them")
        stems[part] = root / name
    read = {path for stem in stems.values() for path in _paths(stem, cfg)}
    files, faults = user_files.listing(root)
    others = [path.relative_to(root).as_posix() for path in files if path not in read]
    report = [*user_files.listed("ignored  files that are no part:", others), *user_files.listed("skipped ", faults)]
    return {part: _aligned(stem, cfg) for part, stem in stems.items()}, report


def _pair(cfg: Mapping[str, Any], *pairs: str) -> list[str]:
    """The names of `cfg["pair"]`, None for the first of `pairs`. Raises UserError if it is none of them."""
    pair = cfg["pair"] or pairs[0]
    if pair not in pairs:
        raise UserError(f"data.pair = {pair!r}{nearest(pair, pairs)}")
    return pair.split("-")


def languages(cfg: Mapping[str, Any]) -> tuple[str, str]:
    """The names of source and target in `cfg["pair"]`. Raises UserError if they are not two different ones."""
    names = (cfg["pair"] or "").split("-")
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise UserError(
            f"data.pair = {cfg['pair']!r}: two different names, of languages or files' endings, as in 'en-de'"
        )
    return names[0], names[1]


def _paths(stem: Path, cfg: Mapping[str, Any]) -> list[Path]:
    suffixes = languages(cfg)
    return [stem.with_name(f"{stem.name}.{suffix}") for suffix in suffixes]


def _aligned(stem: Path, cfg: Mapping[str, Any]) -> Lines:
    paths = _paths(stem, cfg)
    source, target = (_lines(path) for path in paths)
    if len(source) != len(target):
        raise UserError(
            f"{paths[0]} has {len(source):,} lines and {paths[1]} {len(target):,}: line i of one must be line i of the other"
        )
    return Lines(source, target)


def _tsv(path: Path) -> Lines:
    rows = list(user_files.records(path, "\t"))
    if bad := next((row for row in rows if len(row.cells) != 2), None):
        raise UserError(f"{path}, {bad.place}: {len(bad.cells)} fields; want a source, a tab and its target")
    return Lines([row.cells[0] for row in rows], [row.cells[1] for row in rows])


def _lines(path: Path) -> list[str]:
    return user_files.lines(user_files.read(path))

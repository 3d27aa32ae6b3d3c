"""Parallel text: lines and what each should become, in parts to train, validate and test on.

Config: source (`SOURCES`); pair, the languages as the data names them, "en-de"; for `files` also path and, where no part to
validate on is given, valid_fraction (0.1).
"""

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from research.data import download, tfds_records, user_files
from research.data.tokenizers import moses, subwords
from research.util.errors import UserError, nearest

PARTS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Lines:
    """Line i of `source` becomes line i of `target`; `raw` is that as it was written, where `target` is tokenised."""

    source: list[str]
    target: list[str]
    raw: list[str] | None = None

    def __len__(self) -> int:
        return len(self.source)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """`parts` by name of `PARTS`, train and valid at least.

    prepare   a raw line -> as those of `source` are
    words     what a model says in the way of `target` -> words, as references of tokenised BLEU have them
    restore   those words -> text as it is written
    """

    parts: Mapping[str, Lines]
    report: list[str]
    prepare: Callable[[str], str] = str
    words: Callable[[str], str] = str
    restore: Callable[[str], str] = str


SOURCES: dict[str, Callable[[Mapping[str, Any]], Corpus]] = {}


def load(cfg: Mapping[str, Any]) -> Corpus:
    """The parts of `cfg["source"]`."""
    source = cfg["source"]
    if source not in SOURCES:
        raise UserError(f"no parallel source {source!r}{nearest(source, SOURCES)}")
    found = SOURCES[source](cfg)
    for part in ("train", "valid"):
        if not len(found.parts[part]):
            raise UserError(f"{source}: no line in {part}")
    sizes = ", ".join(f"{len(lines):,} to {name}" for name, lines in found.parts.items())
    return dataclasses.replace(found, report=[*found.report, f"pairs    {sizes}"])


def _source(function: Callable[[Mapping[str, Any]], Corpus]) -> Callable:
    SOURCES[function.__name__] = function
    return function


_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def in_words(n: int) -> str:
    """A number in 0..999,999 as English says it: 121000 is "one hundred twenty one thousand"."""
    if n >= 1000:
        rest = f" {in_words(n % 1000)}" if n % 1000 else ""
        return f"{in_words(n // 1000)} thousand{rest}"
    if n >= 100:
        rest = f" {in_words(n % 100)}" if n % 100 else ""
        return f"{_SMALL[n // 100]} hundred{rest}"
    if n >= 20:
        return _TENS[n // 10 - 2] + (f" {_SMALL[n % 10]}" if n % 10 else "")
    return _SMALL[n]


@_source
def numbers(cfg: Mapping[str, Any]) -> Corpus:
    """Synthetic, by a rule: the digits of a number and its English words. As many numbers of one digit count as of another.

    20,000 draws of 0..999,999, those to validate and test on (500 each) left out of the training part. The pair is
    "digits-words".
    """
    _pair(cfg, "digits-words", "words-digits")
    rng = np.random.default_rng(0)
    drawn = dict.fromkeys(int(rng.integers(10**k)) for k in rng.integers(3, 7, size=21_000))
    held, rest = list(drawn)[:1000], list(drawn)[1000:21_000]

    def lines(values: list[int]) -> Lines:
        both = [" ".join(str(n)) for n in values], [in_words(n) for n in values]
        return Lines(*(both if cfg["pair"] == "digits-words" else both[::-1]))

    parts = {"train": lines(rest), "valid": lines(held[:500]), "test": lines(held[500:])}
    return Corpus(parts, ["source   numbers: synthetic pairs, a number's digits and its English words"])


@_source
def multi30k_bpe(cfg: Mapping[str, Any]) -> Corpus:
    """Wu et al. 2021's published input, tokenised, lower-cased and in byte pairs; `raw` are Multi30k's own lines."""
    from research.data.builders import multi30k_bpe as builder

    first, second = _pair(cfg, "en-de", "de-en")
    merges = subwords.Merges(builder.merges())
    parts = {}
    for part, split in _MULTI30K.items():
        pieces = _read("multi30k_bpe", split)
        raw = None if part == "train" else _read("multi30k", split)[second]
        parts[part] = Lines(pieces[first], pieces[second], raw)
    return Corpus(
        parts,
        ["source   multi30k_bpe: tokenised, lower-cased, joint byte pairs; valid, and test of 2016"],
        prepare=lambda line: merges.split(moses.tokenize(line.lower(), first)),
        words=subwords.join,
        restore=lambda line: moses.detokenize(line, second),
    )


@_source
def multi30k(cfg: Mapping[str, Any]) -> Corpus:
    """Multi30k as it was written; valid, and the test of 2016."""
    first, second = _pair(cfg, "en-de", "de-en")
    found = {part: _read("multi30k", split) for part, split in _MULTI30K.items()}
    parts = {part: Lines(lines[first], lines[second]) for part, lines in found.items()}
    return Corpus(parts, ["source   multi30k: raw text; valid, and test of 2016"])


_MULTI30K = {"train": "train", "valid": "validation", "test": "test_2016"}


def _read(name: str, split: str) -> dict[str, list[str]]:
    rows = tfds_records.examples(name, split)
    return {language: [row[language].decode("utf-8") for row in rows] for language in rows[0]}


@_source
def ag_news_titles(cfg: Mapping[str, Any]) -> Corpus:
    """Summaries: the description of a news item and its title, of the 9,999 training rows of AG News at hand.

    The last tenth of them is to validate on; the test is the first 1,000 rows of the official one.
    """
    from research.data.builders.ag_news_part import AgNewsPart

    _pair(cfg, "description-title")
    paths = download.fetch(AgNewsPart.FOLDER, AgNewsPart.FILES)
    found = []
    for file in AgNewsPart.FILES:
        rows = list(csv.reader(io.StringIO(download.read(paths[file.name]).decode("utf-8"), newline="")))
        found.append(Lines([row[2] for row in rows], [row[1] for row in rows]))
    train, test = found
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
def files(cfg: Mapping[str, Any]) -> Corpus:
    """The user's own UTF-8 text, with pair = "SOURCE-TARGET" the endings of the files' names:

    a folder with train.SOURCE, train.TARGET and where wanted valid.* and test.*; the beginning of the names of two files,
    PATH.SOURCE and PATH.TARGET; or one .tsv file with a source, a tab and its target in a line.
    """
    path = user_files.option(cfg, "path", None)
    if path is None:
        raise UserError(f"data.path is not set; data.source = {cfg['source']!r} needs it")
    root = Path(path).expanduser()
    if root.is_dir():
        parts = {
            part: _two(root / part, cfg) for part in PARTS if part == "train" or _beside(root / part, cfg)[0].exists()
        }
    elif root.suffix == ".tsv":
        parts = {"train": _tabbed(root)}
    else:
        parts = {"train": _two(root, cfg)}
    fraction = user_files.option(cfg, "valid_fraction", 0.1)
    if "valid" not in parts:
        if not 0 < fraction < 1:
            raise UserError(f"data.valid_fraction = {fraction}: above 0 and below 1")
        whole = parts["train"]
        at = len(whole) - round(len(whole) * fraction)
        parts["train"] = Lines(whole.source[:at], whole.target[:at])
        parts["valid"] = Lines(whole.source[at:], whole.target[at:])
    return Corpus({part: parts[part] for part in PARTS if part in parts}, [f"source   {root}"])


def _pair(cfg: Mapping[str, Any], *known: str) -> list[str]:
    if cfg["pair"] not in known:
        raise UserError(f"data.pair = {cfg['pair']!r}{nearest(cfg['pair'], known)}")
    return cfg["pair"].split("-")


def _beside(stem: Path, cfg: Mapping[str, Any]) -> list[Path]:
    ends = cfg["pair"].split("-")
    if len(ends) != 2 or not all(ends) or ends[0] == ends[1]:
        raise UserError(f"data.pair = {cfg['pair']!r}: two different endings, as in 'en-de'")
    return [stem.with_name(f"{stem.name}.{end}") for end in ends]


def _two(stem: Path, cfg: Mapping[str, Any]) -> Lines:
    paths = _beside(stem, cfg)
    source, target = (_lines(path) for path in paths)
    if len(source) != len(target):
        raise UserError(
            f"{paths[0]} has {len(source):,} lines and {paths[1]} {len(target):,}: line i of one must be line i of the other"
        )
    return Lines(source, target)


def _tabbed(path: Path) -> Lines:
    rows = [line.split("\t") for line in _lines(path)]
    if bad := next((i for i, row in enumerate(rows, 1) if len(row) != 2), None):
        raise UserError(f"{path}, line {bad}: {len(rows[bad - 1])} fields; want a source, a tab and its target")
    return Lines([a for a, _ in rows], [b for _, b in rows])


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror}") from None
    except UnicodeDecodeError as e:
        raise UserError(f"{path} is not UTF-8 (byte 0x{e.object[e.start]:02x} at {e.start:,})") from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []

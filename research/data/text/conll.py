"""The user's own files of labelled words in columns, as CoNLL's shared tasks have them.

A line has a word and its label in its first and last column, separated by tabs or else by white space; a blank line ends a
sentence. Lines of -DOCSTART- are skipped and counted. The labels of spans follow a scheme (`SCHEMES`, or none):

    bio     B-PER begins a span, I-PER continues it (IOB2)
    iob1    I-PER begins it too, and B-PER begins one directly behind another of its type (CoNLL 2003's own files)
    bioes   B-PER, I-PER, E-PER, and S-PER for a span of one word; BMES is the same with M for I
    none    labels are any texts, of no spans: parts of speech
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from research.data import user_files
from research.util.errors import UserError, nearest

SUFFIXES = (".txt", ".conll")
_SPAN = re.compile(r"[BIMES](-.+)?")
_DOCSTART = "-DOCSTART-"


class Line(NamedTuple):
    """A word, its label, and where it stands."""

    word: str
    label: str
    place: str  # "FILE, line N"


Sentence = list[Line]


def _bio(before: str, label: str) -> str:
    """What is wrong with a label behind another; empty if nothing is. `before` is O where a sentence begins."""
    return _no_span(before, label) if label[0] == "I" and _open(before) != label[1:] else ""


def _no_span(before: str, label: str) -> str:
    return f"{label} after {before}, where no span{label[1:].replace('-', ' ')} is open"


def _open(label: str) -> str | None:
    """The type, with its hyphen, of the span that a label of bio leaves open."""
    return None if label == "O" else label[1:]


def _iob1(before: str, label: str) -> str:
    wrong = label[0] == "B" and _open(before) != label[1:]
    return f"{label} after {before}, where I{label[1:]} would begin a span" if wrong else ""


def _bioes(before: str, label: str) -> str:
    unfinished = before[1:] if before[0] in "BI" else None
    if label[0] in "IE" and unfinished != label[1:]:
        return _no_span(before, label)
    if label[0] in "BSO" and unfinished is not None:
        return f"{label} after {before}, whose span has no E{before[1:]}"
    return ""


SCHEMES = {"bio": ("BIO", _bio), "iob1": ("BIO", _iob1), "bioes": ("BIESO", _bioes)}


def read(cfg: Mapping[str, Any]) -> tuple[dict[str, list[Sentence]], str, list[str]]:
    """The sentences of `cfg["path"]` by part, the scheme of their labels after conversion, and lines for a report.

    The path is a file, or a folder with files train, valid and test (.txt, .conll). Without a valid part it is the last
    `valid_fraction` of train, by default a tenth. `cfg["scheme"]` names the scheme of the files (None: it is read off the
    labels). The result's is bio, bioes or none: iob1 becomes bio, M becomes I. Raises UserError for a line without a
    label, and for labels that break the scheme.
    """
    root = user_files.root(cfg)
    report: list[str] = []
    if root.is_dir():
        parts = _folder(root, report)
    else:
        parts = {"train": _sentences(root, report)}
    parts = {name: sentences for name, sentences in parts.items() if sentences}
    if "train" not in parts:
        raise UserError(
            f"data.path = {root}: no labelled word to train on; want a file, or a folder with train.txt or .conll"
        )
    scheme = _scheme(user_files.option(cfg, "scheme", None), [s for part in parts.values() for s in part])
    parts = {name: [_converted(s, scheme) for s in part] for name, part in parts.items()}
    if "valid" not in parts:
        parts = _held_out(parts, user_files.option(cfg, "valid_fraction", 0.1))
    return parts, "bio" if scheme == "iob1" else scheme, [f"source   {root}, labels of scheme {scheme}", *report]


def _folder(root: Path, report: list[str]) -> dict[str, list[Sentence]]:
    paths, faults = user_files.listing(root)
    report += user_files.listed("skipped ", faults)
    report += user_files.ignored([path for path in paths if path.suffix.lower() not in SUFFIXES], SUFFIXES)
    parts: dict[str, list[Sentence]] = {}
    for path in paths:
        if path.suffix.lower() in SUFFIXES:
            if not (name := user_files.part(path.stem)):
                report.append(f"ignored  {path.name}, which is not called train, valid or test")
                continue
            if name in parts:
                raise UserError(f"{path}: another file is the {name} part, too; keep one of them")
            parts[name] = _sentences(path, report)
    return parts


def _sentences(path: Path, report: list[str]) -> list[Sentence]:
    sentences: list[Sentence] = [[]]
    skipped = 0
    for number, line in enumerate(user_files.lines(user_files.read(path)), 1):
        cells = [cell.strip() for cell in line.split("\t")] if "\t" in line.strip() else line.split()
        if not line.strip():
            sentences.append([])
        elif cells[0] == _DOCSTART:
            skipped += 1
        elif len(cells) < 2 or not cells[0] or not cells[-1]:
            raise UserError(f"{path}, line {number}: {line.strip()[:40]!r} has no label; want a word and its label")
        else:
            sentences[-1].append(Line(cells[0], cells[-1], f"{path}, line {number}"))
    if skipped:
        report.append(f"skipped  {skipped:,} lines {_DOCSTART} of {path.name}")
    return [sentence for sentence in sentences if sentence]


def _scheme(name: str | None, sentences: list[Sentence]) -> str:
    """The scheme `name`, or that of the labels. Raises UserError if they break it."""
    if name not in (None, "none", *SCHEMES):
        raise UserError(f"data.scheme = {name!r}{nearest(name, ['none', *SCHEMES])}")
    if name is None:
        labels = {line.label for sentence in sentences for line in sentence}
        if not all(label == "O" or _SPAN.fullmatch(label) for label in labels) or labels == {"O"}:
            return "none"
        if any(label[0] in "EMS" for label in labels):
            name = "bioes"
        elif next(_faults(sentences, "bio"), None) and not next(_faults(sentences, "iob1"), None):
            name = "iob1"
        else:
            name = "bio"
    if name != "none" and (fault := next(_faults(sentences, name), None)):
        raise UserError(f"{fault}; mend it, or set data.scheme to that of the file ({', '.join(SCHEMES)}, or none)")
    return name


def _faults(sentences: list[Sentence], scheme: str) -> Iterator[str]:
    prefixes, rule = SCHEMES[scheme]
    for sentence in sentences:
        before = "O"
        for line in sentence:
            label = _canonical(line.label)
            if (label != "O" and not _SPAN.fullmatch(label)) or label[0] not in prefixes:
                yield f"{line.place}: the label {line.label!r} is none of the scheme {scheme}"
            elif fault := rule(before, label):
                yield f"{line.place}: {fault} (scheme {scheme})"
            before = label
        if scheme == "bioes" and before[0] in "BI":
            yield f"{sentence[-1].place}: {before} ends a sentence, whose span has no E{before[1:]} (scheme {scheme})"


def _canonical(label: str) -> str:
    return f"I{label[1:]}" if _SPAN.fullmatch(label) and label[0] == "M" else label


def _converted(sentence: Sentence, scheme: str) -> Sentence:
    if scheme == "none":
        return sentence
    labels = [_canonical(line.label) for line in sentence]
    if scheme == "iob1":
        pairs = zip(["O", *labels], labels, strict=False)
        labels = [f"B{b[1:]}" if b[0] == "I" and _open(a) != b[1:] else b for a, b in pairs]
    return [line._replace(label=label) for line, label in zip(sentence, labels, strict=True)]


def _held_out(parts: dict[str, list[Sentence]], fraction: float) -> dict[str, list[Sentence]]:
    train = parts["train"]
    size = round(fraction * len(train))
    if not 0 < size < len(train):
        raise UserError(
            f"data.valid_fraction = {fraction} of {len(train):,} sentences to train on leaves {size:,} to validate; "
            "set another, or add a file valid.txt"
        )
    cut = len(train) - size
    return {"train": train[:cut], "valid": train[cut:], **{k: v for k, v in parts.items() if k != "train"}}

"""Extractive question answering: questions on passages whose answers are spans of the passage; sources, checks and splits.

Config: source (`SOURCES`), valid_fraction (None: 0.02 for `squad`, 0.1 for `files`; `generated` has a part of its own); for
`files` also path, a .json in SQuAD's format; for `generated` passages, the number of training passages (None: 1,500).
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from research.data import tfds_records, user_files
from research.data.text import synthetic_qa
from research.util.errors import UserError, nearest

Answer = tuple[str, int]  # its text, and the character of the passage at which it begins
Row = tuple[str, str, str, str, Sequence[Answer]]  # title, passage, id, question, answers


@dataclasses.dataclass(frozen=True)
class Questions:
    """Question i, `questions[i]`, is on passage `passages[passage_index[i]]`; each of `answers[i]` is correct, and if there is
    none, the passage does not answer it. No two `ids` are equal.

    Every answer is a span of its passage: `passage[start : start + len(text)] == text`.
    """

    passages: list[str]
    titles: list[str]  # of the passages' documents
    ids: list[str]
    questions: list[str]
    passage_index: list[int]
    answers: list[tuple[Answer, ...]]

    def __len__(self) -> int:
        return len(self.questions)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The parts of a data set; `test` is None if the source has none. `report`: lines on the source and its sizes."""

    train: Questions
    valid: Questions
    test: Questions | None
    report: list[str]

    @property
    def held_out(self) -> dict[str, Questions]:
        """The parts to evaluate on, by split."""
        return {"valid": self.valid} | ({} if self.test is None else {"test": self.test})


SOURCES: dict[str, Callable[[Mapping[str, Any]], Corpus]] = {}


def load(cfg: Mapping[str, Any]) -> Corpus:
    """The corpus that `cfg["source"]` names. Raises UserError if there is none, or a part of it has no question."""
    source = cfg["source"]
    if source not in SOURCES:
        raise UserError(f"no source of questions {source!r}{nearest(source, SOURCES)}")
    corpus = SOURCES[source](cfg)
    parts = {"to train": corpus.train, "to validate": corpus.valid}
    parts |= {} if corpus.test is None else {"to test": corpus.test}
    for purpose, part in parts.items():
        if not len(part):
            raise UserError(f"{source}: no question is left {purpose}; change data.valid_fraction")
    sizes = (f"{len(part):,} on {len(part.passages):,} passages {purpose}" for purpose, part in parts.items())
    corpus.report.append(f"asked    {', '.join(sizes)}")
    return corpus


def answered(corpus: Corpus) -> Corpus:
    """The questions that have an answer, and a line on the others. Raises UserError if none is left in a part."""
    left_out = 0
    parts = {}
    for name, part in {"train": corpus.train, **corpus.held_out}.items():
        parts[name] = collect(row for row in _rows_of(part) if row[-1])
        left_out += len(part) - len(parts[name])
        if not len(parts[name]):
            raise UserError(f"no question of {name} has an answer; a passage cannot be found for them")
    if not left_out:
        return corpus
    line = f"left out {left_out:,} questions without an answer: no passage is right for them"
    return Corpus(parts["train"], parts["valid"], parts.get("test"), [*corpus.report, line])


def _rows_of(questions: Questions) -> Iterable[Row]:
    for i, passage in enumerate(questions.passage_index):
        title, text = questions.titles[passage], questions.passages[passage]
        yield title, text, questions.ids[i], questions.questions[i], questions.answers[i]


def collect(rows: Iterable[Row]) -> Questions:
    """Rows -> Questions. Raises UserError that names the id of the first invalid row, and an id that a second row has too."""
    part = Questions([], [], [], [], [], [])
    numbers: dict[str, int] = {}
    ids: set[str] = set()
    for title, passage, name, question, answers in rows:
        _check(name, question, passage, answers)
        if name in ids:
            raise UserError(f"several questions have the id {name!r}; an answer is scored by its id: give each its own")
        ids.add(name)
        if passage not in numbers:
            numbers[passage] = len(numbers)
            part.passages.append(passage)
            part.titles.append(title)
        part.ids.append(name)
        part.questions.append(question.strip())
        part.passage_index.append(numbers[passage])
        part.answers.append(tuple(answers))
    return part


def _check(name: str, question: str, passage: str, answers: Sequence[Answer]) -> None:
    if not question.strip():
        raise UserError(f"question {name!r} is empty")
    for text, start in answers:
        span = passage[max(start, 0) : max(start, 0) + len(text)]
        if not text.strip():
            raise UserError(f"question {name!r}: its answer {text!r} is empty")
        if start < 0 or start + len(text) > len(passage):
            raise UserError(
                f"question {name!r}: its answer {text!r} at character {start} is outside its passage of {len(passage):,}"
            )
        if span != text:
            raise UserError(f"question {name!r}: at character {start} of its passage stands {span!r}, not {text!r}")


def split(questions: Questions, fraction: float) -> tuple[Questions, Questions]:
    """-> the questions to train on, and those on about a `fraction` of the documents, chosen by the hashes of their titles.

    If there are fewer than ten documents, passages are held out instead. Raises UserError unless 0 < fraction < 1.
    """
    if not 0 < fraction < 1:
        raise UserError(f"data.valid_fraction = {fraction}: above 0 and below 1")
    names = questions.titles if len(set(questions.titles)) >= 10 else questions.passages
    hashes = {name: hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest() for name in names}
    ranked = sorted(set(names), key=lambda name: hashes[name])
    held_out = set(ranked[: max(1, round(len(ranked) * fraction))])
    rows: list[list] = [[], []]
    for row, passage in zip(_rows_of(questions), questions.passage_index, strict=True):
        rows[names[passage] in held_out].append(row)
    return collect(rows[0]), collect(rows[1])


def _source(function: Callable[[Mapping[str, Any]], Corpus]) -> Callable:
    SOURCES[function.__name__] = function
    return function


@_source
def generated(cfg: Mapping[str, Any]) -> Corpus:
    """Fact sheets of `synthetic_qa`: 1,500 passages to train on, or `passages`; a tenth as many (at least 20) to validate, and
    to test. No name is in two parts."""
    count = user_files.option(cfg, "passages", 1500)
    if count < 10:
        raise UserError(f"data.passages = {count}: at least 10")
    sizes = {"train": count, "valid": max(20, count // 10), "test": max(20, count // 10)}
    parts = {part: collect(_rows(synthetic_qa.passages(part, size), part)) for part, size in sizes.items()}
    return Corpus(**parts, report=["source   generated: fact sheets from a grammar, not real text"])


def _rows(passages: list, part: str) -> Iterable[Row]:
    for i, (title, passage, questions) in enumerate(passages):
        for j, row in enumerate(questions):
            yield title, passage, f"{part}-{i}-{j}", row.question, [(row.answer, row.start)]


@_source
def squad(cfg: Mapping[str, Any]) -> Corpus:
    """SQuAD v1.1. `test` is the development set; validation articles are held out from the training set.

    The paper's test set is not public: published numbers are on the development set too.
    """
    records = {part: tfds_records.load("squad", split) for part, split in (("train", "train"), ("test", "validation"))}
    published, test = (collect(_squad_rows(records[part])) for part in ("train", "test"))
    train, valid = split(published, user_files.option(cfg, "valid_fraction", 0.02))
    kind = "the published training file"
    if tfds_records.builder("squad").rebuilt:
        kind = "the training file rebuilt: made-up ids, and 10.8 % of the answers may stand at a later place too"
    return Corpus(train, valid, test, [f"source   squad v1.1: {kind}"])


def _squad_rows(examples: Any) -> Iterable[Row]:
    for i in range(0, len(examples), 1024):
        for row in examples.__getitems__(list(range(i, min(i + 1024, len(examples))))):
            title, passage, name, question = (row[k].decode("utf-8") for k in ("title", "context", "id", "question"))
            texts, starts = row["answers"]["text"], row["answers"]["answer_start"]
            yield (
                title,
                passage,
                name,
                question,
                [(t.decode("utf-8"), int(s)) for t, s in zip(texts, starts, strict=True)],
            )


@_source
def files(cfg: Mapping[str, Any]) -> Corpus:
    """The user's own questions: a UTF-8 .json in the format of SQuAD,
    {"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text", "answer_start"}]}]}]}]}.

    As in version 2.0, a question whose list of answers is empty has none in its passage; `is_impossible` may say so too.
    A question with a field that is null or of another type is skipped, and named in the report.
    """
    path = user_files.root(cfg)
    faults: list[str] = []
    questions = collect(_file_rows(path, faults))
    if not len(questions):
        raise UserError(f"{path}: no question found ({faults[0] if faults else 'its data is empty'})")
    train, valid = split(questions, user_files.option(cfg, "valid_fraction", 0.1))
    none = sum(not answers for answers in questions.answers)
    report = [f"source   {path}: {len(questions):,} questions{f', {none:,} of them without an answer' if none else ''}"]
    return Corpus(train, valid, None, [*report, *user_files.listed("skipped ", faults)])


def _file_rows(path: Path, faults: list[str]) -> Iterable[Row]:
    """The questions of a file; a line for each that is skipped is added to `faults`."""
    file = user_files.json_value(path)
    try:
        for article in file["data"]:
            title = article.get("title")
            for paragraph in article["paragraphs"]:
                passage = paragraph["context"]
                for question in paragraph["qas"]:
                    row = _file_row("" if title is None else str(title), passage, question)
                    if isinstance(row, str):
                        faults.append(f"question {question['id']!r}: {row}")
                    else:
                        yield row
    except (KeyError, TypeError, AttributeError) as e:
        raise UserError(f"{path} is not in SQuAD's form: {type(e).__name__}: {e}") from None


def _file_row(title: str, passage: Any, question: Mapping[str, Any]) -> Row | str:
    """A question as the file has it -> a row, or why it is skipped."""
    name, text = question["id"], question["question"]
    if isinstance(name, bool) or not isinstance(name, str | int):
        return "its id is no text"
    for what, value in (("passage", passage), ("question", text)):
        if not isinstance(value, str):
            return f"its {what} is {_json(value)}, no text"
        if not user_files.whole_characters(value):
            return f"half a surrogate pair in its {what}"
    answers = _answers(question)
    return answers if isinstance(answers, str) else (title, passage, str(name), text, answers)


def _answers(question: Mapping[str, Any]) -> list[Answer] | str:
    impossible = question.get("is_impossible")
    given = question.get("answers") if impossible else question["answers"]
    if impossible not in (None, True, False):
        return f"is_impossible is {_json(impossible)}; want true or false"
    if impossible and given:
        return "is_impossible is true, and it has answers"
    if impossible:
        return []
    if not isinstance(given, list):
        return f"its answers are {_json(given)}, no list"
    answers = []
    for answer in given:
        text, start = (answer.get(key) if isinstance(answer, dict) else None for key in ("text", "answer_start"))
        if not isinstance(text, str):
            return f"an answer is {_json(answer)}; its text is no text"
        if (place := _whole_number(start)) is None:
            return f"its answer {text!r} begins at {_json(start)}, no whole number"
        answers.append((text, place))
    return answers


def _whole_number(value: Any) -> int | None:
    """6, 6.0 or "6" -> 6; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _json(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

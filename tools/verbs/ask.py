"""`almanac ask READER_RUN --documents FOLDER [--retriever bm25|RUN] [QUESTION]`"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import options
from experiments.question_answering import open_domain_qa
from research.data.text import documents
from research.evals import answers
from research.models.text.bm25 import BM25
from research.run import reopen
from research.util import figures, run_files
from research.util.errors import UserError
from research.util.escape import TEXT, visible
from research.util.files import write_json
from research.util.run_files import FINITE, Shape
from tools.verbs import arguments

CALIBRATION = Shape({"temperature": FINITE, "threshold": FINITE})  # of RUN/ask/*.json
CONTEXT = 60  # characters printed on either side of an answer


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac ask",
        description="Answers questions from a folder of .txt and .md files with a run of question_answering: prints the answer, "
        "its position and a confidence, or no answer. The first call fits a temperature and a threshold for the confidence on "
        "the run's validation questions, and stores them in RUN/ask.",
    )
    arguments.add_run(parser)
    parser.add_argument("question", nargs="?", help="default: read from the terminal")
    parser.add_argument("--documents", required=True, metavar="FOLDER", help="the documents to answer from")
    parser.add_argument(
        "--retriever", default="bm25", metavar="bm25|RUN", help="how passages are retrieved (default: bm25)"
    )
    parser.add_argument("--passages", default="5", metavar="N", help="number of passages to read (default: 5)")
    args = parser.parse_args(_positionals_first(argv))
    count = options.parse_int("--passages", args.passages, 1)
    if args.question is not None and not args.question.strip():
        raise UserError("the question is empty; ask it in words")
    if args.question is None and not sys.stdin.isatty():
        raise UserError("no question: give one, or run in a terminal")
    answers_from = Documents(args.run, args.checkpoint, args.documents, args.retriever, count)
    for question in [args.question] if args.question is not None else _questions():
        print(visible(_text(answers_from.find(question)), keep=TEXT))
    return 0


class Found(NamedTuple):
    """The best span of a question, characters start..stop-1 of a document: no answer if `confidence` is below `threshold`."""

    text: str
    confidence: float
    threshold: float
    document: str
    start: int
    stop: int
    snippet: str  # the span in brackets, with what stands around it


class Documents:
    """Finds answers in a folder of documents, with a run of question_answering and a threshold fitted on its validation part.

    Prints what it leaves out of the folder. Raises UserError if a run is of another family, or no document has a word.
    """

    def __init__(self, run: str, checkpoint: str, folder: str, retriever: str, count: int):
        self._passages, skipped = documents.load(folder)
        e, state, step = load(run, checkpoint, "question_answering")
        search, name = _search(retriever)
        setting = {"step": step, "retriever": name, "passages": count, "accuracy": e.ask.accuracy}
        self._calibration = _calibration(Path(run), setting, e, state.variables, search)
        for line in skipped:
            print(f"left out {visible(line)}", file=sys.stderr)
        texts = [passage.text for passage in self._passages]
        self._no_answer = e.ask.no_answer
        self._answerer = open_domain_qa.Answerer(e.ask, state.variables, texts, search, count)

    def find(self, question: str) -> Found:
        """The best span. Raises UserError if the question has no letter or digit."""
        (candidates,) = self._answerer.candidates([question])
        best, source = candidates[0], self._passages[candidates[0].passage]
        scores = np.array([candidate.score for candidate in candidates])
        confidence = answers.confidence(scores, self._calibration["temperature"], self._no_answer)[0]
        text, start = self._answerer.text(best), source.start + best.start
        before, after = source.text[max(0, best.start - CONTEXT) : best.start], source.text[best.stop :][:CONTEXT]
        snippet = " ".join(f"{before}[{text}]{after}".split())
        threshold, stop = self._calibration["threshold"], source.start + best.stop
        return Found(text, float(confidence), threshold, source.source, start, stop, snippet)


def _positionals_first(argv: list[str]) -> list[str]:
    """The words with all positionals before the options, because argparse fills RUN and QUESTION at the same time or not at all.

    >>> _positionals_first(["runs/reader", "--documents", "docs", "Who?"])
    ['runs/reader', 'Who?', '--documents', 'docs']
    """
    words, positionals, options = list(argv), list[str](), list[str]()
    while words:
        word = words.pop(0)
        takes_value = word.startswith("--") and "=" not in word and word != "--help"
        (options if word.startswith("-") else positionals).append(word)
        options += [words.pop(0)] if takes_value and words else []
    return [*positionals, *options]


def load(run: str, checkpoint: str, family: str) -> tuple:
    """-> experiment, state and step of a run. Raises UserError if it is of another family."""
    name = reopen.load_config(Path(run)).name
    if not name.startswith(f"{family}/"):
        raise UserError(f"{run} is a run of {name}; want one of {family}")
    return reopen.load(run, checkpoint)


def _search(retriever: str) -> tuple[open_domain_qa.Search, str]:
    """-> the search function of a retriever, and the retriever's name."""
    if retriever == "bm25":
        return lambda passages: BM25(passages).scores, "bm25"
    e, state, step = load(retriever, "best", "retrieval")

    def search(passages: Sequence[str]):
        vectors = e.ask.embed(state.variables, "passages", list(passages))
        return lambda question: vectors @ e.ask.embed(state.variables, "questions", [question])[0]

    return search, f"{Path(retriever).resolve()}@{step}"


def _calibration(
    run: Path, setting: dict[str, Any], e: Any, variables: Any, search: open_domain_qa.Search
) -> dict[str, Any]:
    """The temperature and threshold for a setting (checkpoint, retriever, number of passages): from RUN/ask, or fitted now."""
    path = run_files.inside(run, f"ask/{hashlib.sha256(json.dumps(setting).encode()).hexdigest()[:12]}.json")
    if path.is_file():
        return run_files.read_object(path, CALIBRATION)
    print(f"fitting temperature and threshold on validation questions, once: {visible(path)}", file=sys.stderr)
    outcomes = {
        split: open_domain_qa.measure(e.ask, variables, part, search, setting["passages"])
        for split, part in e.data.corpus.held_out.items()
    }
    calibration = {"of": setting, **open_domain_qa.calibrate(e.ask, outcomes.pop("valid"), outcomes)}
    path.parent.mkdir(exist_ok=True)
    write_json(path, calibration)
    _draw(calibration, path.with_suffix(".png"))
    for name, curve in calibration["curves"].items():
        right = "none" if curve["right"] is None else f"{curve['right']:.3f}"
        print(
            f"{visible(name)}: answers {curve['answered']:.3f} of the questions, {right} of them right", file=sys.stderr
        )
    return calibration


def _draw(calibration: dict[str, Any], path: Path) -> None:
    """Plots the accuracy of the answers over the share of questions answered, with the threshold's point."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, curve in calibration["curves"].items():
        (line,) = axes.plot(curve["coverage"], curve["accuracy"], label=name)
        if curve["right"] is not None:
            axes.plot(curve["answered"], curve["right"], "o", color=line.get_color())
    axes.set(xlabel="share of questions answered", ylabel="share of answers right", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    figures.save(figure, path, dpi=120)


def _questions():
    """Reads questions from the terminal until an empty line or the end of the input."""
    while True:
        try:
            question = input("? ")
        except EOFError:
            return
        if not question.strip():
            return
        yield question


def _text(found: Found) -> str:
    place = f"  {found.document}, characters {found.start:,} to {found.stop:,}: {found.snippet}"
    if found.confidence < found.threshold:
        reason = f"the best guess has a confidence of {found.confidence:.3f}, below {found.threshold:.3f}"
        return f"no answer ({reason})\n{place}"
    return f"{found.text}  (confidence {found.confidence:.3f})\n{place}"

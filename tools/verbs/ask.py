"""`almanac ask READER_RUN --documents FOLDER [--retriever bm25|RUN] [QUESTION]`"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.options import whole
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

CHOSEN = Shape({"temperature": FINITE, "threshold": FINITE})  # of RUN/ask/*.json
AROUND = 60  # characters shown on either side of an answer


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac ask",
        description="Answers questions from a folder of .txt and .md files by a run of question_answering: the answer, its "
        "place and a confidence, or no answer. The first time it chooses the confidence's temperature and the least "
        "confidence to answer with, on the run's validation questions, and keeps them in RUN/ask.",
    )
    arguments.add_run(parser)
    parser.add_argument("question", nargs="?", help="default: asked for, where this is a terminal")
    parser.add_argument("--documents", required=True, metavar="FOLDER", help="what to answer from")
    parser.add_argument("--retriever", default="bm25", metavar="bm25|RUN", help="what finds passages (default: bm25)")
    parser.add_argument("--passages", default="5", metavar="N", help="how many of them are read (default: 5)")
    args = parser.parse_args(_positionals_first(argv))
    count = whole("--passages", args.passages, 1)
    if args.question is not None and not args.question.strip():
        raise UserError("the question is empty; ask it in words")
    if args.question is None and not sys.stdin.isatty():
        raise UserError("no question: give one, or ask at a terminal")
    passages, skipped = documents.load(args.documents)
    e, state, step = _loaded(args.run, args.checkpoint, "question_answering")
    search, name = _search(args.retriever)
    reader = e.ask
    of = {"step": step, "retriever": name, "passages": count, "accuracy": reader.accuracy}
    chosen = _calibration(Path(args.run), of, e, state.variables, search)
    for line in skipped:
        print(f"left out {visible(line)}", file=sys.stderr)
    answerer = open_domain_qa.Answerer(reader, state.variables, [p.text for p in passages], search, count)
    for question in [args.question] if args.question is not None else _questions():
        print(visible(_answer(answerer, passages, chosen, reader.no_answer, question), keep=TEXT))
    return 0


def _positionals_first(argv: list[str]) -> list[str]:
    """The same words with the question beside the run, wherever it stood: argparse takes both at once or neither."""
    words, plain, options = list(argv), list[str](), list[str]()
    while words:
        word = words.pop(0)
        takes = word.startswith("--") and "=" not in word and word != "--help"
        (options if word.startswith("-") else plain).append(word)
        options += [words.pop(0)] if takes and words else []
    return [*plain, *options]


def _loaded(run: str, checkpoint: str, family: str) -> tuple:
    name = reopen.load_config(Path(run)).name
    if not name.startswith(f"{family}/"):
        raise UserError(f"{run} is a run of {name}; want one of {family}")
    return reopen.load(run, checkpoint)


def _search(retriever: str) -> tuple[open_domain_qa.Search, str]:
    """-> how passages are searched, and a name for it."""
    if retriever == "bm25":
        return lambda passages: BM25(passages).scores, "bm25"
    e, state, step = _loaded(retriever, "best", "retrieval")

    def search(passages: Sequence[str]):
        vectors = e.ask.embed(state.variables, "passages", list(passages))
        return lambda question: vectors @ e.ask.embed(state.variables, "questions", [question])[0]

    return search, f"{Path(retriever).resolve()}@{step}"


def _calibration(
    run: Path, of: dict[str, Any], e: Any, variables: Any, search: open_domain_qa.Search
) -> dict[str, Any]:
    """The temperature and threshold of this checkpoint, retriever and number of passages: from RUN/ask, or chosen now."""
    path = run_files.inside(run, f"ask/{hashlib.sha256(json.dumps(of).encode()).hexdigest()[:12]}.json")
    if path.is_file():
        return run_files.read_object(path, CHOSEN)
    print(f"choosing temperature and threshold on validation questions, once: {visible(path)}", file=sys.stderr)
    outcomes = {
        split: open_domain_qa.measure(e.ask, variables, part, search, of["passages"])
        for split, part in e.data.corpus.held_out.items()
    }
    chosen = {"of": of, **open_domain_qa.calibrate(e.ask, outcomes.pop("valid"), outcomes)}
    path.parent.mkdir(exist_ok=True)
    write_json(path, chosen)
    _draw(chosen, path.with_suffix(".png"))
    for name, curve in chosen["curves"].items():
        right = "none" if curve["right"] is None else f"{curve['right']:.3f}"
        print(
            f"{visible(name)}: answers {curve['answered']:.3f} of the questions, {right} of them right", file=sys.stderr
        )
    return chosen


def _draw(chosen: dict[str, Any], path: Path) -> None:
    """Accuracy of the answers given over the share of questions answered, and the point chosen."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, curve in chosen["curves"].items():
        (line,) = axes.plot(curve["coverage"], curve["accuracy"], label=name)
        if curve["right"] is not None:
            axes.plot(curve["answered"], curve["right"], "o", color=line.get_color())
    axes.set(xlabel="share of questions answered", ylabel="share of answers right", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    figures.save(figure, path, dpi=120)


def _questions():
    """Questions from the terminal, until an empty line or the end."""
    while True:
        try:
            question = input("? ")
        except EOFError:
            return
        if not question.strip():
            return
        yield question


def _answer(answerer: Any, passages: list, chosen: dict[str, Any], no_answer: bool, question: str) -> str:
    (candidates,) = answerer.candidates([question])
    best, source = candidates[0], passages[candidates[0].passage]
    scores = np.array([candidate.score for candidate in candidates])
    confidence = float(answers.confidence(scores, chosen["temperature"], no_answer)[0])
    text, start = answerer.text(best), source.start + best.start
    place = f"{source.source}, characters {start:,} to {source.start + best.stop:,}"
    before = source.text[max(0, best.start - AROUND) : best.start]
    shown = " ".join(f"{before}[{text}]{source.text[best.stop : best.stop + AROUND]}".split())
    if confidence < chosen["threshold"]:
        least = f"the best guess has a confidence of {confidence:.3f}, below {chosen['threshold']:.3f}"
        return f"no answer ({least})\n  {place}: {shown}"
    return f"{text}  (confidence {confidence:.3f})\n  {place}: {shown}"

"""Answers from many passages: retrieve, read, and say how sure; or say that there is no answer.

A question is read in its `count` best passages. The confidence of a span is a softmax over the best spans of them all and,
where the reader can say so, no answer. Its temperature and the threshold below which no answer is given are chosen on the
validation questions, each asked twice: of all the validation passages, and of all but its own, where no answer is right.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.question_answering.reading import Reader
from research.data.text.questions import Questions
from research.evals import answers, squad
from research.util.errors import UserError

Search = Callable[[Sequence[str]], Callable[[str], np.ndarray]]  # passages -> question -> a score of each, f[M]
ASKED = 200  # questions of a part that are asked, evenly spaced: more would take long, and change little


class Candidate(NamedTuple):
    """A span of the characters start..stop-1 of passage number `passage`; `score` as the reader's."""

    score: float
    passage: int
    start: int
    stop: int


class Answerer:
    """Passages that questions are asked of, with what searches and what reads them."""

    def __init__(self, reader: Reader, variables: Any, passages: Sequence[str], search: Search, count: int):
        self.passages, self._reader, self._variables = list(passages), reader, variables
        self._scores, self._count = search(self.passages), count

    def candidates(self, asked: Sequence[str], without: Sequence[int] | None = None) -> list[list[Candidate]]:
        """Each question's spans in its best passages, the best first; `without` names a passage for each not to look at."""
        pairs = Questions(self.passages, [""] * len(self.passages), [], [], [], [])
        owner: list[int] = []
        for i, question in enumerate(asked):
            if not any(c.isalnum() for c in question):
                raise UserError("the question is empty; ask it in words")
            scores = np.array(self._scores(question), np.float64)
            if without is not None:
                scores[without[i]] = -np.inf
            for passage in np.argsort(-scores, kind="stable")[: self._count]:
                if scores[passage] > -np.inf:
                    pairs.ids.append(str(len(owner)))
                    pairs.asked.append(question)
                    pairs.where.append(int(passage))
                    pairs.answers.append(())
                    owner.append(i)
        found: list[list[Candidate]] = [[] for _ in asked]
        read = self._reader.read(self._variables, self._reader.windows(pairs))
        for i, passage, spans in zip(owner, pairs.where, read, strict=True):
            found[i] += [Candidate(one.score, passage, one.start, one.stop) for one in spans]
        return [sorted(row, key=lambda c: -c.score) for row in found]

    def text(self, one: Candidate) -> str:
        return self.passages[one.passage][one.start : one.stop]


class Measured(NamedTuple):
    """Questions asked twice, as the head of this file says: each's scores, and whether its best span is right."""

    scores: list[np.ndarray]
    right: np.ndarray


def measure(reader: Reader, variables: Any, part: Questions, search: Search, count: int) -> Measured:
    """Asks `ASKED` of a part's questions of its passages, with and without their own. Right is an exact match."""
    if len(part.passages) < 2:
        raise UserError("a validation part of one passage cannot tell what an answer's confidence is worth")
    rows = np.unique(np.linspace(0, len(part) - 1, ASKED).astype(int))
    asked, own = [part.asked[i] for i in rows], [part.where[i] for i in rows]
    answerer = Answerer(reader, variables, part.passages, search, count)
    scores, right = [], []
    for without in (None, own):
        for row, found in zip(rows, answerer.candidates(asked, without), strict=True):
            scores.append(np.array([one.score for one in found]))
            exact = squad.exact_match(answerer.text(found[0]), [text for text, _ in part.answers[row]])
            right.append(bool(exact) and without is None)
    return Measured(scores, np.array(right))


def calibrate(reader: Reader, valid: Measured, others: dict[str, Measured]) -> dict[str, Any]:
    """-> {"temperature", "threshold", "curves": {part: {"threshold", "coverage", "accuracy", "answered", "right"}}}.

    The threshold answers as many validation questions as it can with an accuracy of `answer.accuracy`; a part's `answered`
    and `right` are its coverage and accuracy there. Half of a part's questions have no answer: its coverage can be all
    right up to a half.
    """
    temperature = answers.fit_temperature(valid.scores, valid.right, reader.null)
    curves, threshold = {}, 0.0
    for name, part in {"valid": valid, **others}.items():
        confidences = np.array([answers.confidence(s, temperature, reader.null)[0] for s in part.scores])
        curve = answers.curve(confidences, part.right)
        if name == "valid":
            threshold = answers.choose_threshold(curve, reader.accuracy)
        given = confidences >= threshold
        right = float(part.right[given].mean()) if given.any() else None
        curves[name] = {k: v.tolist() for k, v in curve._asdict().items()}
        curves[name] |= {"answered": float(given.mean()), "right": right}
    return {"temperature": temperature, "threshold": threshold, "curves": curves}

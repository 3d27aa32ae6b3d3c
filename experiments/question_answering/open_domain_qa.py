"""Open-domain question answering: retrieves passages, reads them, and gives the best span with a confidence, or no answer.

A question is read in its `count` best passages. The confidence of a span is a softmax over the best spans of them all and,
if the reader can say so, no answer. Its temperature and the threshold below which no answer is given are chosen on the
validation questions, each asked twice: of all the validation passages, and of all but its own, where no answer is right.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.question_answering.reader import Reader
from research.data.text.questions import Questions
from research.evals import answers, squad
from research.util.errors import UserError

Search = Callable[[Sequence[str]], Callable[[str], np.ndarray]]  # M passages -> question -> a score of each, f[M]
MAX_QUESTIONS = 200  # of a split that calibration uses, evenly spaced: more would take long, and change little


class Candidate(NamedTuple):
    """A span of the characters start..stop-1 of passage number `passage`; `score` as the reader's."""

    score: float
    passage: int
    start: int
    stop: int


class Answerer:
    """Passages to ask questions of, with a retriever that searches and a reader that reads them."""

    def __init__(self, reader: Reader, variables: Any, passages: Sequence[str], search: Search, count: int):
        self.passages, self._reader, self._variables = list(passages), reader, variables
        self._scores, self._count = search(self.passages), count

    def candidates(self, questions: Sequence[str], without: Sequence[int] | None = None) -> list[list[Candidate]]:
        """Each question's spans in its best passages, from the best; `without[i]` is a passage that question i may not use.

        Raises UserError if a question has no word.
        """
        pairs = Questions(self.passages, [""] * len(self.passages), [], [], [], [])
        owner: list[int] = []
        for i, question in enumerate(questions):
            if not any(c.isalnum() for c in question):
                raise UserError("the question is empty; ask it in words")
            scores = np.array(self._scores(question), np.float64)
            if without is not None:
                scores[without[i]] = -np.inf
            for passage in np.argsort(-scores, kind="stable")[: self._count]:
                if scores[passage] > -np.inf:
                    pairs.ids.append(str(len(owner)))
                    pairs.questions.append(question)
                    pairs.passage_index.append(int(passage))
                    pairs.answers.append(())
                    owner.append(i)
        candidates: list[list[Candidate]] = [[] for _ in questions]
        spans_of_pairs = self._reader.read(self._variables, self._reader.windows(pairs))
        for i, passage, spans in zip(owner, pairs.passage_index, spans_of_pairs, strict=True):
            candidates[i] += [Candidate(span.score, passage, span.start, span.stop) for span in spans]
        return [sorted(row, key=lambda c: -c.score) for row in candidates]

    def text(self, candidate: Candidate) -> str:
        return self.passages[candidate.passage][candidate.start : candidate.stop]


class Outcomes(NamedTuple):
    """Questions asked twice, as the head of this file says: the scores of each, f64[n], and whether its best span is right."""

    scores: list[np.ndarray]
    right: np.ndarray


def measure(reader: Reader, variables: Any, part: Questions, search: Search, count: int) -> Outcomes:
    """Asks `MAX_QUESTIONS` of a part's questions of its passages, with and without their own. Right is an exact match.

    Raises UserError if the part has one passage.
    """
    if len(part.passages) < 2:
        raise UserError("a validation part of one passage cannot tell what an answer's confidence is worth")
    rows = np.unique(np.linspace(0, len(part) - 1, MAX_QUESTIONS).astype(int))
    questions, own_passages = [part.questions[i] for i in rows], [part.passage_index[i] for i in rows]
    answerer = Answerer(reader, variables, part.passages, search, count)
    scores, right = [], []
    for without in (None, own_passages):
        for row, candidates in zip(rows, answerer.candidates(questions, without), strict=True):
            scores.append(np.array([candidate.score for candidate in candidates]))
            exact = squad.exact_match(answerer.text(candidates[0]), [text for text, _ in part.answers[row]])
            right.append(bool(exact) and without is None)
    return Outcomes(scores, np.array(right))


def calibrate(reader: Reader, valid: Outcomes, others: dict[str, Outcomes]) -> dict[str, Any]:
    """-> {"temperature", "threshold", "curves": {split: {"threshold", "coverage", "accuracy", "answered", "right"}}}.

    The threshold answers as many validation questions as it can with an accuracy of `answer.accuracy`; a split's `answered`
    and `right` are its coverage and accuracy there. Half of its questions have no answer: up to a coverage of a half, all
    answers can be right.
    """
    temperature = answers.fit_temperature(valid.scores, valid.right, reader.no_answer)
    curves, threshold = {}, 0.0
    for split, outcomes in {"valid": valid, **others}.items():
        confidences = np.array([answers.confidence(s, temperature, reader.no_answer)[0] for s in outcomes.scores])
        curve = answers.curve(confidences, outcomes.right)
        if split == "valid":
            threshold = answers.choose_threshold(curve, reader.accuracy)
        answered = confidences >= threshold
        right = float(outcomes.right[answered].mean()) if answered.any() else None
        curves[split] = {k: v.tolist() for k, v in curve._asdict().items()}
        curves[split] |= {"answered": float(answered.mean()), "right": right}
    return {"temperature": temperature, "threshold": threshold, "curves": curves}

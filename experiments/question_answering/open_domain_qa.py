"""Open-domain question answering: retrieves passages, reads them, and gives the best span with a confidence, or no answer.

A question is answered from its `count` best passages. The confidence of a span is a softmax over the best spans of all of them
and, if the reader can predict it, no answer. The temperature, and the threshold below which no answer is given, are fitted on
the validation questions. Each is asked twice: of all validation passages, and of all but its own, where "no answer" is correct.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.question_answering.reader import Reader
from research.data.text.questions import Questions
from research.evals import answers, squad
from research.util.errors import UserError

Search = Callable[[Sequence[str]], Callable[[str], np.ndarray]]  # M passages -> question -> a score of each, f[M]
MAX_QUESTIONS = 200  # per split, evenly spaced: more would make calibration slow and change little


class Candidate(NamedTuple):
    """The characters start..stop-1 of passage number `passage`, and the reader's score."""

    score: float
    passage: int
    start: int
    stop: int


class Answerer:
    """Answers questions from passages.

    reader, variables    the reader, and the variables of its model
    search               the retriever: passages -> question -> a score for each passage
    count                the number of passages read for a question
    """

    def __init__(self, reader: Reader, variables: Any, passages: Sequence[str], search: Search, count: int):
        self.passages, self._reader, self._variables = list(passages), reader, variables
        self._scores, self._count = search(self.passages), count

    def candidates(self, questions: Sequence[str], without: Sequence[int] | None = None) -> list[list[Candidate]]:
        """For each question the spans in its best passages, best first. `without[i]`: a passage not searched for question i.

        Raises UserError if a question has no letter or digit.
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
        """The text of a candidate."""
        return self.passages[candidate.passage][candidate.start : candidate.stop]


class Outcomes(NamedTuple):
    """For each question (asked twice, see above) the candidates' scores f64[n], and whether the best one is correct."""

    scores: list[np.ndarray]
    right: np.ndarray


def measure(reader: Reader, variables: Any, part: Questions, search: Search, count: int) -> Outcomes:
    """Answers `MAX_QUESTIONS` questions of a part, with and without their own passage. Correct is an exact match.

    Raises UserError if the part has a single passage.
    """
    if len(part.passages) < 2:
        raise UserError("confidence cannot be calibrated on a validation part with a single passage")
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

    The threshold is the one that answers the most validation questions at an accuracy of `answer.accuracy`; a split's `answered`
    and `right` are its coverage and accuracy at the threshold. Half of the questions have no answer, so coverage at an
    accuracy of 1 is at most a half.
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

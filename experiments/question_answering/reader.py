"""A trained reader: finds the best spans for a question over all windows of its passage, as characters of the passage."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from research.data.pipeline import EvalBatches
from research.data.text.question_answering import QuestionAnswering
from research.data.text.questions import Questions
from research.data.text.spans import Windows
from research.evals import squad
from research.evals.spans import best_spans

LOWEST_SCORE = -1e29  # positions outside the passage have logits of -1e30, so spans that include one score below this


class Span(NamedTuple):
    """The characters start..stop-1 of a passage. With `Reader.no_answer` the score is the log-odds against "no answer"."""

    score: float
    start: int
    stop: int


class Reader:
    """Finds answer spans from the logits of `predict(variables, inputs) -> {"start", "end": f32[B, L]}`.

    `options` is the config's `answer` group: max_length (tokens of a span), n_best (spans per window and per question), accuracy.
    """

    def __init__(
        self, predict: Callable, data: QuestionAnswering, batch_size: int, no_answer: bool, options: Mapping[str, Any]
    ):
        self.no_answer, self.accuracy = no_answer, options["accuracy"]
        self._data, self._batch_size, self._n_best = data, batch_size, options["n_best"]
        max_length, n_best = options["max_length"], options["n_best"]

        def spans(variables, inputs):
            logits = predict(variables, inputs)
            scores, first, last = best_spans(logits["start"], logits["end"], max_length, n_best)
            null_score = logits["start"][:, :1] + logits["end"][:, :1] if no_answer else 0.0
            return scores - null_score, first, last

        self._spans = jax.jit(spans)

    def windows(self, questions: Questions) -> Windows:
        """The windows of the questions' passages, as inputs for `read`."""
        return self._data.windows(questions)

    def read(self, variables: Any, windows: Windows, after_batch: Callable[[], Any] = lambda: None) -> list[list[Span]]:
        """The n_best spans of each question, best first. A span that occurs in several windows has the largest of its scores."""
        batches = EvalBatches(windows, self._batch_size)
        scores_of: list[dict[tuple[int, int], float]] = [{} for _ in range(len(windows.data))]
        for number in range(len(batches)):
            batch = batches.batch(number)
            inputs = {name: batch[name] for name in self._data.codec.inputs}
            scores, first, last = jax.device_get(self._spans(variables, inputs))
            for i in range(min(self._batch_size, len(windows) - number * self._batch_size)):
                row = number * self._batch_size + i
                of_question = scores_of[windows.question_index[row]]
                for k in np.flatnonzero(scores[i] > LOWEST_SCORE):
                    characters = windows.characters(row, int(first[i, k]), int(last[i, k]))
                    of_question[characters] = max(of_question.get(characters, -np.inf), float(scores[i, k]))
            after_batch()
        ranked = [sorted(scores.items(), key=lambda item: (-item[1], item[0])) for scores in scores_of]
        return [[Span(score, *characters) for characters, score in spans[: self._n_best]] for spans in ranked]

    def score(
        self, variables: Any, windows: Windows, after_batch: Callable[[], Any] = lambda: None
    ) -> dict[str, float]:
        """{"em", "f1"} of the best spans, in percent, as SQuAD's evaluation.

        If some questions have no answer, a span that is less likely than no answer is not given, and SQuAD 2.0's further
        metrics of `squad.score` are returned, too.
        """
        data = windows.data
        may_decline = self.no_answer and not all(data.answers)
        none = Span(0.0, 0, 0)
        ranked = self.read(variables, windows, after_batch)
        best = [spans[0] if spans and not (may_decline and spans[0].score <= 0) else none for spans in ranked]
        passages = [data.passages[i] for i in data.passage_index]
        texts = [passage[span.start : span.stop] for passage, span in zip(passages, best, strict=True)]
        references = {name: [text for text, _ in data.answers[i]] for i, name in enumerate(data.ids)}
        return squad.score(references, dict(zip(data.ids, texts, strict=True)))

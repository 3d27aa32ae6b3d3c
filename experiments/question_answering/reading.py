"""A trained reader at work: the best spans of each question, over all windows of its passage, in the passage's characters."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from research.data.pipeline import EvalBatches
from research.data.text.questions import Questions
from research.data.text.spans import Layout, Windows
from research.evals import squad
from research.evals.spans import best_spans

SHUT_OUT = -1e29  # no span that the passage holds scores so little


class Found(NamedTuple):
    """A span of a passage's characters. With `Reader.null` the score is its log-odds against no answer."""

    score: float
    start: int
    stop: int


class Reader:
    """What reads with a model: `predict(variables, inputs) -> {"start", "end": f32[B, L]}`."""

    def __init__(
        self, predict: Any, layout: Layout, stride: int, batch_size: int, null: bool, answer: Mapping[str, Any]
    ):
        self.layout, self.null, self.accuracy = layout, null, answer["accuracy"]
        self._stride, self._batch_size, self._n_best = stride, batch_size, answer["n_best"]
        longest = answer["max_length"]

        def spans(variables, inputs):
            out = predict(variables, inputs)
            scores, first, last = best_spans(out["start"], out["end"], longest, answer["n_best"])
            return scores - (out["start"][:, :1] + out["end"][:, :1] if null else 0.0), first, last

        self._spans = jax.jit(spans)

    def windows(self, data: Questions) -> Windows:
        return Windows(data, self.layout, self._stride)

    def read(self, variables: Any, windows: Windows) -> list[list[Found]]:
        """The `answer.n_best` best spans of every question, the best first; two windows' same span is one."""
        sweep = EvalBatches(windows, self._batch_size)
        found: list[dict[tuple[int, int], float]] = [{} for _ in range(len(windows.data))]
        for number in range(len(sweep)):
            batch = sweep.batch(number)
            inputs = {name: batch[name] for name in self.layout.inputs}
            scores, first, last = jax.device_get(self._spans(variables, inputs))
            for i in range(min(self._batch_size, len(windows) - number * self._batch_size)):
                row = number * self._batch_size + i
                best = found[windows.question[row]]
                for k in np.flatnonzero(scores[i] > SHUT_OUT):
                    place = windows.characters(row, int(first[i, k]), int(last[i, k]))
                    best[place] = max(best.get(place, -np.inf), float(scores[i, k]))
        ranked = [sorted(best.items(), key=lambda item: (-item[1], item[0])) for best in found]
        return [[Found(score, *place) for place, score in best[: self._n_best]] for best in ranked]

    def score(self, variables: Any, windows: Windows) -> dict[str, float]:
        """{"em", "f1"} of the best spans, in percent."""
        data = windows.data
        best = [found[0] if found else Found(0.0, 0, 0) for found in self.read(variables, windows)]
        texts = [data.passages[place][one.start : one.stop] for place, one in zip(data.where, best, strict=True)]
        references = {name: [text for text, _ in data.answers[i]] for i, name in enumerate(data.ids)}
        return squad.score(references, dict(zip(data.ids, texts, strict=True)))

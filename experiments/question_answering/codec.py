"""From a question and a passage to a model's inputs, and from its logits to a span of the passage."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.core.experiment import Codec
from research.data import codecs, user_files
from research.data.text import spans
from research.evals.spans import best_spans
from research.util.errors import UserError


@codecs.register("answer_span")
@dataclasses.dataclass(frozen=True)
class AnswerSpan(Codec):
    """(question, passage) <-> the best span, of `max_length` tokens at most. `layout`: how a row is written."""

    layout: spans.Layout
    max_length: int

    takes = "question and passage"

    @property
    def inputs(self) -> dict[str, tuple]:
        return self.layout.inputs

    def encode(self, value: tuple[str, str]) -> dict[str, np.ndarray]:
        """(question, passage) -> a row of the layout's inputs. Raises UserError if either is empty, or the passage too long."""
        question, passage = (self.layout.tokens(text).numbers for text in value)
        if not len(question) or not len(passage):
            raise UserError("want a question in the first line, and after it the passage")
        if len(passage) > (room := self.layout.room(question)):
            raise UserError(f"{len(passage)} tokens of passage are more than the {room} of a window; try `almanac ask`")
        return self.layout.rows([question], [passage])

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """{"start", "end": logits f32[1, L]} -> the top-1 span's first and last position, and its probability.

        In `Apart`, position 1 is the passage's first word.
        """
        start, end = (jnp.asarray(outputs[name]) for name in ("start", "end"))
        score, first, last = (np.asarray(x).item() for x in best_spans(start, end, self.max_length))
        probability = np.exp(score - sum(float(jax.nn.logsumexp(logits)) for logits in (start, end)))
        return {"first": first, "last": last, "probability": round(float(probability), 4)}

    def read(self, file: Path) -> tuple[str, str]:
        return user_files.read_pair(file)

"""What one HTTP request has asked of the models, as it goes: the observer makes numbers of it once it has been answered."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from research.serving.jobs import Finished, Timing, Token
from research.serving.servable import Servable

Arrays = Mapping[str, np.ndarray]
LARGEST = 1 << 20  # bytes of what a request holds, to be captured: many requests may wait for the observer


@dataclasses.dataclass
class Rows:
    """Rows to predict, and their outputs once they are there."""

    servable: Servable
    inputs: Arrays
    timing: Timing = dataclasses.field(default_factory=Timing)
    outputs: Arrays | None = None

    @property
    def answered(self) -> int:
        return 0 if self.outputs is None else len(next(iter(self.inputs.values())))

    @property
    def classes(self) -> Sequence:
        """The classes of a classifier; empty of any other model."""
        is_classifier = np.ndim((self.outputs or {}).get("probabilities", 0)) == 2
        return getattr(self.servable.predictor.codec, "classes", None) or () if is_classifier else ()


@dataclasses.dataclass
class Text:
    """A text that is generated: the number of the prompt's tokens, and the log-probability in nats of each token since."""

    servable: Servable
    prompt: int
    timing: Timing = dataclasses.field(default_factory=Timing)
    logprobs: list[float] = dataclasses.field(default_factory=list)

    def take(self, event: Token | Finished) -> None:
        self.timing.ended = time.monotonic()
        if isinstance(event, Token):
            self.timing.first = self.timing.first or self.timing.ended
            self.logprobs.append(event.logprob)


class Repeated(NamedTuple):
    """A text that had been kept: nothing is computed."""

    servable: Servable


class Content(NamedTuple):
    """What a row held, as JSON's value, and the text that it was answered, if any."""

    servable: Servable
    value: Any
    reply: str | None = None


@dataclasses.dataclass
class Record:
    """A request by its id, and what it asked for, in order. Route, status and seconds are known when it has been answered.

    contents  of its rows, in order; None: they are not captured
    started   as `time.monotonic` tells it
    parent    the client's trace and span, as its header `traceparent` has them
    """

    id: str
    parts: list[Rows | Text | Repeated] = dataclasses.field(default_factory=list)
    contents: list[Content] | None = None
    started: float = dataclasses.field(default_factory=time.monotonic)
    parent: str = ""
    method: str = ""
    route: str = ""
    status: int = 0
    seconds: float = 0.0
    _size: int = 0

    def rows(self, servable: Servable, inputs: Arrays) -> Rows:
        self.parts.append(part := Rows(servable, inputs))
        return part

    def text(self, servable: Servable, prompt: int) -> Text:
        self.parts.append(part := Text(servable, prompt))
        return part

    def repeated(self, servable: Servable) -> None:
        self.parts.append(Repeated(servable))

    def keep(self, servable: Servable, value: Any, reply: str | None = None) -> None:
        """Keeps what the next row held, if contents are captured; of a request with more than LARGEST bytes nothing."""
        if self.contents is None:
            return
        self.contents.append(Content(servable, value, reply))
        self._size += len(value if isinstance(value, str) else json.dumps(value))
        if self._size > LARGEST:
            self.contents = None

    def answered(self) -> list[Sequence]:
        """Of each row that was answered, the classes that it could have had: none but a classifier's."""
        found: list[Sequence] = []
        for part in self.parts:
            found += [part.classes] * part.answered if isinstance(part, Rows) else [()]
        return found

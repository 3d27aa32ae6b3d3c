"""What one HTTP request has asked of the models, as it goes: the observer makes numbers of it once it has been answered."""

import dataclasses
import time
from collections.abc import Mapping

import numpy as np

from research.serving.jobs import Finished, Timing, Token
from research.serving.servable import Servable

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass
class Rows:
    """Rows to predict, and their outputs once they are there."""

    servable: Servable
    inputs: Arrays
    timing: Timing = dataclasses.field(default_factory=Timing)
    outputs: Arrays | None = None


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


@dataclasses.dataclass
class Record:
    """A request by its id, and what it asked for, in order. Route, status and seconds are known when it has been answered."""

    id: str
    parts: list[Rows | Text] = dataclasses.field(default_factory=list)
    route: str = ""
    status: int = 0
    seconds: float = 0.0

    def rows(self, servable: Servable, inputs: Arrays) -> Rows:
        self.parts.append(part := Rows(servable, inputs))
        return part

    def text(self, servable: Servable, prompt: int) -> Text:
        self.parts.append(part := Text(servable, prompt))
        return part

"""What continuous batching is asked for and answers: a request, its tokens one by one, and why it ended."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from research.generation.constraints import Constraint

STOP, LENGTH, CANCELLED, FAILED = "stop", "length", "cancelled", "error"


class Busy(Exception):
    """The queue is full."""


class Closed(Exception):
    """It takes no more requests."""


@dataclasses.dataclass
class Timing:
    """When parts of an answer began, as `time.monotonic` tells it, and the share of its batch that was filled.

    `began` is when the device took it, `first` when its first token, or a predicted row whole, was there.
    """

    came: float = dataclasses.field(default_factory=time.monotonic)
    began: float | None = None
    first: float | None = None
    ended: float | None = None
    fill: float | None = None


@dataclasses.dataclass(frozen=True)
class Request:
    """A prompt and how to continue it.

    prompt       i32[T], at least one token
    length       tokens to generate, at most; with the prompt at most the decoder's `max_length`
    key          of the row, as `generate` takes one for each row
    sampling     numbers among the options of `decoding.Sampling`: temperature (1.0), top_k, top_p, min_p, repetition_penalty
    stop         sequences of token ids, each of which ends the text after it
    constraint   what the generated text must match; None: nothing
    """

    prompt: np.ndarray
    length: int
    key: jax.Array
    sampling: dict[str, float] = dataclasses.field(default_factory=dict)
    stop: Sequence[Sequence[int]] = ()
    constraint: Constraint | None = None


class Token(NamedTuple):
    """A generated token, and log-probabilities in nats before any processor."""

    id: int
    logprob: float
    top: np.ndarray  # i32[TOP], the most probable tokens
    top_logprobs: np.ndarray  # f32[TOP]


class Finished(NamedTuple):
    """The end of a request: STOP, LENGTH, CANCELLED or FAILED."""

    reason: str


class Job:
    """A request in the engine. `deliver` gets each `Token`, and then `Finished`, from the engine's thread."""

    def __init__(self, request: Request, deliver: Callable[[Token | Finished], Any], timing: Timing | None = None):
        self.request, self._deliver, self.timing = request, deliver, timing or Timing()
        self.number = 0  # of admission: the order in which prompts are read
        self.read = 0  # tokens of the prompt that the device has been given
        self.drawn = 0  # tokens that the device has been asked for
        self.tokens: list[int] = []  # those that came back
        self.place = 0  # the constraint's state
        self.finished: str | None = None
        self.is_cancelled = False

    def cancel(self) -> None:
        """Asks for the end. The slot is free before the next token."""
        self.is_cancelled = True

    @property
    def is_generating(self) -> bool:
        return self.read == len(self.request.prompt) and self.drawn < self.request.length

    def accept(self, token: Token) -> None:
        """Delivers a token, unless it only ends the text, and finishes the job if it is the last."""
        if (constraint := self.request.constraint) is not None:
            left = np.array([self.request.length - len(self.tokens) - 1])
            after = constraint.follow(np.array([self.place]), np.array([token.id]), left)
            if int(after[0]) < 0:
                return self.finish(STOP)
            self.place = int(after[0])
            ends = not constraint.goes_on(after)[0]
        self.tokens.append(token.id)
        self._deliver(token)
        stops = any(self.tokens[-len(s) :] == list(s) for s in self.request.stop)
        if stops or (constraint is not None and ends):
            return self.finish(STOP)
        return self.finish(LENGTH) if len(self.tokens) == self.request.length else None

    def drawable(self) -> jax.Array:
        """bool[V]: the tokens that the constraint allows next."""
        left = np.array([self.request.length - len(self.tokens) - 1])
        return self.request.constraint.drawable(np.array([self.place]), left)[0]

    def finish(self, reason: str) -> None:
        """Ends the job, unless it has ended."""
        if self.finished is None:
            self.finished = reason
            self._deliver(Finished(reason))

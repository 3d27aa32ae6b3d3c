"""Servables in service: each one's batcher and engine, and answers awaited without a thread for each."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from starlette.requests import HTTPConnection

from research.data.tokenizers import token_bytes
from research.generation import constraints
from research.generation.constraints import Constraint
from research.serving.batcher import Batcher
from research.serving.engine import Engine
from research.serving.jobs import CANCELLED, FAILED, Busy, Closed, Finished, Request, Token
from research.serving.programs import Programs
from research.serving.servable import Servable
from research.serving.web import problems, trace
from research.serving.web.answers import Answers
from research.serving.web.versions import Versions
from research.util.errors import UserError

ENDED_BY_SERVER = {
    FAILED: problems.failed,
    CANCELLED: problems.closing,
}  # whoever cancels waits for no answer, but at the end


class Limits(NamedTuple):
    """What the server takes, and how long it waits."""

    slots: int = 8  # requests that generate at once
    context: int | None = None  # tokens of a prompt and its answer; None: the model's own
    max_batch: int = 32  # rows predicted at once
    delay: float = 0.002  # seconds that a row waits for others
    queue: int = 64  # requests that wait, of each kind
    seconds: float = 120.0  # of a request
    answers: int = 20_000  # tokens of answers that are kept for requests which come again
    requests: int = 256  # that are being read or answered
    body: int = 8 << 20  # bytes of a request
    drain: float = 30.0  # seconds that requests have to end after SIGTERM


class Served:
    """A servable's threads. `predict` and `generate` raise `Problem`. `number` is its version, for requests."""

    def __init__(self, servable: Servable, limits: Limits, number: int = 1):
        self.servable, self.number, self._limits = servable, number, limits
        rows = limits.max_batch if servable.language is None else 1  # a language model's are logits of every token
        programs = Programs(servable.predictor, servable.variables, rows)
        self.batcher = Batcher(programs, limits.delay, limits.queue)
        self.engine: Engine | None = None
        if (language := servable.language) is not None:
            self.engine = Engine(language.decoder, limits.slots, limits.context, limits.queue)
        self.answers: Answers = Answers(limits.answers)
        self._compiling = asyncio.Semaphore(1)  # a schema's automaton may take 4 GiB
        self._constraint = functools.lru_cache(32)(self._compile)

    @property
    def is_ready(self) -> bool:
        """Whether it can answer: every thread serves."""
        return self.batcher.is_alive and (self.engine is None or self.engine.is_alive)

    @property
    def id(self) -> str:
        """What a request names to have this version and no other: NAME@NUMBER."""
        return f"{self.servable.name}@{self.number}"

    def start(self) -> None:
        """Compiles every program, and starts the threads; if a program fails there are none."""
        try:
            self.batcher.start()
            if self.engine is not None:
                self.engine.start()
        except BaseException:
            self.batcher.close()
            raise

    def close(self) -> None:
        """Ends the threads, once what they have is answered or `drain` seconds have passed."""
        if self.engine is not None:
            self.engine.close(self._limits.drain)
        self.batcher.close()

    async def predict(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Rows of inputs -> their outputs."""
        rows = trace.current().rows(self.servable, inputs)
        try:
            future = self.batcher.submit(inputs, rows.timing)
        except Busy:
            raise problems.busy() from None
        except Closed:
            raise problems.closing() from None
        try:
            rows.outputs = await asyncio.wait_for(asyncio.wrap_future(future), self._limits.seconds)
            return rows.outputs
        except TimeoutError:
            raise problems.out_of_time() from None

    async def predict_all(self, rows: Sequence[Mapping[str, np.ndarray]]) -> list[Mapping[str, np.ndarray]]:
        """Inputs of many rows -> the outputs of each, a batch at a time: one request does not fill the queue."""
        most, outputs = min(self._limits.max_batch, self._limits.queue), []
        try:
            async with asyncio.timeout(self._limits.seconds):
                for start in range(0, len(rows), most):
                    outputs += await asyncio.gather(*map(self.predict, rows[start : start + most]))
        except TimeoutError:
            raise problems.out_of_time() from None
        return outputs

    async def generate(self, request: Request) -> AsyncGenerator[Token | Finished]:
        """The request's tokens, then why it ended. Closing the iterator cancels the request, and its slot is free."""
        loop, text = asyncio.get_running_loop(), trace.current().text(self.servable, len(request.prompt))
        events: asyncio.Queue = asyncio.Queue()

        def deliver(event: Token | Finished) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                loop.call_soon_threadsafe(events.put_nowait, event)

        assert self.engine is not None
        try:
            job = self.engine.submit(request, deliver, text.timing)
        except Busy:
            raise problems.busy() from None
        except Closed:
            raise problems.closing() from None
        end = loop.time() + self._limits.seconds
        try:
            while True:
                event = await asyncio.wait_for(events.get(), end - loop.time())
                if isinstance(event, Finished) and event.reason in ENDED_BY_SERVER:
                    raise ENDED_BY_SERVER[event.reason]()
                text.take(event)
                yield event
                if isinstance(event, Finished):
                    return
        except TimeoutError:
            raise problems.out_of_time() from None
        finally:
            job.cancel()

    async def constraint(self, pattern: str) -> Constraint:
        """The automaton of a regular expression, compiled once. Raises UserError if there is none."""
        async with self._compiling:
            return await asyncio.to_thread(self._constraint, pattern)

    def _compile(self, pattern: str) -> Constraint:
        assert self.servable.language is not None
        made = constraints.from_regex(pattern, token_bytes.of(self.servable.language.tokenizer))
        first, left = (
            np.array([0]),
            np.array([0]),
        )  # of these shapes its operations are compiled here, not between others' tokens
        made.drawable(first, left), made.goes_on(made.follow(first, first, left))
        return made


Find = Callable[[str], Served]


class Models:
    """The models in service, by name, each in one version or more. A request names NAME, NAME@latest or NAME@NUMBER."""

    def __init__(self, models: Mapping[str, Served]):
        self.versions = {name: Versions(name, served) for name, served in models.items()}

    @property
    def loaded(self) -> list[Served]:
        """Every version of every model."""
        return [served for versions in self.versions.values() for served in versions.loaded.values()]

    @property
    def are_ready(self) -> bool:
        return all(served.is_ready for served in self.loaded)

    def __getitem__(self, name: str) -> Served:
        """What describes a model: the latest version, unless the name says another. `in_use` is for its answers.

        Raises `Problem` if there is none of this name.
        """
        versions, which = self._split(name)
        return versions[versions.number(which or "latest")]

    def _split(self, name: str) -> tuple[Versions[Served], str]:
        name, at, which = name.partition("@")
        if name not in self.versions or (at and not which):
            known = ", ".join(self.versions)
            raise problems.Problem(404, "model_not_found", f"there is no model of this name; known: {known}", "model")
        return self.versions[name], which

    async def in_use(self, connection: HTTPConnection) -> AsyncGenerator[Find]:
        """A dependency of FastAPI: finds the model of a request, and holds it until the answer has been sent."""
        with contextlib.ExitStack() as stack:

            def find(name: str) -> Served:
                versions, which = self._split(name)
                model = stack.enter_context(versions.in_use(versions.number(which)))
                connection.scope["model"] = model  # for the metrics
                return model

            yield find

    def start(self) -> None:
        for model in self.loaded:
            model.start()

    def close(self) -> None:
        for model in self.loaded:
            model.close()


def of(servables: list[Servable], limits: Limits) -> Models:
    """Raises UserError if two have one name, or a name could not stand in an address."""
    made: dict[str, Any] = {}
    for servable in servables:
        name = servable.name
        if not name or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):
            raise UserError(f"the name {name!r}: letters, digits, '.', '_' and '-'; write NAME=RUN to give another")
        if name in made:
            raise UserError(f"two models are called {name}; write NAME=RUN to name one of them")
        made[name] = Served(servable, limits)
    return Models(made)

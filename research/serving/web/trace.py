"""A name for every request, `x-request-id`, and the record of what it asks of the models."""

import contextlib
import re
import time
import uuid
from collections.abc import Iterator
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from research.serving.monitor.observer import Observer
from research.serving.monitor.record import Record
from research.serving.web.spans import Spans

HEADER = b"x-request-id"
_SAFE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_current: ContextVar[Record] = ContextVar("record")


def current() -> Record:
    """The record of the request that is being answered; of nobody's request, one that is thrown away."""
    return _current.get(None) or Record("")


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """What is asked of models within is in no record: it is not what the client asked, and would be drift to the monitor."""
    token = _current.set(Record(""))
    try:
        yield
    finally:
        _current.reset(token)


class Traced:
    """An ASGI application around another: every answer carries the request's id, and `observer` and `spans` get every POST.

    They get it before the end of the answer is sent, so that a client that has the answer can give feedback on it.

    A client's own id is taken if it is 1 to 64 letters, digits, '.', '_' and '-'; otherwise the request gets a random one.
    """

    def __init__(self, app: ASGIApp, observer: Observer | None = None, spans: Spans | None = None):
        self._app, self._to = app, [each for each in (observer, spans) if each is not None]
        self._captures = observer is not None and observer.captures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        record = Record(
            _own_id(scope) or uuid.uuid4().hex, method=scope["method"], parent=_header(scope, b"traceparent")
        )
        waiting = [*self._to] if scope["method"] == "POST" else []
        if self._captures:
            record.contents = []

        def hand_over() -> None:
            if waiting:  # else it was handed over before, and is another thread's
                record.route = getattr(scope.get("route"), "path", "none")
                record.seconds = time.monotonic() - record.started
            while waiting:
                waiting.pop(0).put(record)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER, record.id.encode())]
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                hand_over()
            await send(message)

        token = _current.set(record)
        try:
            await self._app(scope, receive, named)
        finally:
            _current.reset(token)
            hand_over()  # of a client that left


def _own_id(scope: Scope) -> str | None:
    given = _header(scope, HEADER)
    return given if _SAFE.fullmatch(given) else None


def _header(scope: Scope, name: bytes) -> str:
    """The value of a header that was sent once; empty for another."""
    given = [value for key, value in scope["headers"] if key == name]
    return given[0].decode("latin-1") if len(given) == 1 else ""

"""A name for every request, `x-request-id`, and the record of what it asks of the models."""

import re
import time
import uuid
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from research.serving.monitor.observer import Observer
from research.serving.monitor.record import Record

HEADER = b"x-request-id"
_SAFE = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_current: ContextVar[Record] = ContextVar("record")


def current() -> Record:
    """The record of the request that is being answered; of nobody's request, one that is thrown away."""
    return _current.get(None) or Record("")


class Traced:
    """An ASGI application around another: every answer carries the request's id, and `observer` gets every POST.

    It gets it before the last of the answer is sent: whoever has an answer may give feedback on it at once.

    A client's own id is taken if it is 1 to 64 letters, digits, '.', '_' and '-'; otherwise the request gets a random one.
    """

    def __init__(self, app: ASGIApp, observer: Observer | None = None):
        self._app, self._observer = app, observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        record, start = Record(_own_id(scope) or uuid.uuid4().hex), time.monotonic()
        observer = self._observer if scope["method"] == "POST" else None
        if observer is not None and observer.captures:
            record.contents = []

        def hand_over() -> None:
            nonlocal observer
            if observer is not None:
                record.route = getattr(scope.get("route"), "path", "none")
                record.seconds = time.monotonic() - start
                observer.put(record)
                observer = None

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
    given = [value for name, value in scope["headers"] if name == HEADER]
    return given[0].decode() if len(given) == 1 and _SAFE.fullmatch(given[0]) else None

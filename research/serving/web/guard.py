"""The outermost layer of the application: bounds of the body, metrics, and errors that nobody expected."""

import asyncio
import logging
import math
import time
import traceback
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from research.serving.web import problems
from research.serving.web.metrics import Metrics, labels

BODY_SECONDS = 20.0  # in which a body has to arrive
log = logging.getLogger("almanac.serve")


class Guard:
    """An ASGI application around another.

    More than `requests` POSTs at once are answered with 429, a body of more than `body` bytes with 413, and one that does not
    arrive in time with 408. An unexpected error is
    answered with 500; the log has its type and place, but not its text, which may quote the request.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, body: int, requests: int):
        self._app, self._metrics, self._body, self._left = app, metrics, body, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        start, status, counts = time.monotonic(), 0, scope["method"] == "POST"

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        self._left -= counts
        try:
            if counts and self._left < 0:
                return await problems.busy().response()(scope, receive, watched)
            await self._app(scope, Body(receive, self._body, start + BODY_SECONDS), watched)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.error("%s at %s:%s, %s", type(error).__name__, place.filename, place.lineno, scope["path"][:200])
            if not status:
                await problems.failed().response()(scope, receive, watched)
        finally:
            self._left += counts
            of = getattr(scope.get("route"), "path", "none"), *labels(scope.get("model"))
            self._metrics.requests.labels(*of, status).inc()
            self._metrics.seconds.labels(*of).observe(time.monotonic() - start)


class Body:
    """`receive` with a bound on the bytes and the time of the body; after it, disconnection may take as long as it likes."""

    def __init__(self, receive: Receive, most: int, end: float = math.inf):
        self._receive, self._left, self._end, self._whole = receive, most, end, False

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            left = None if self._end == math.inf else self._end - time.monotonic()
            message: Any = await asyncio.wait_for(self._receive(), left)
        except TimeoutError:
            raise HTTPException(408, "the body did not arrive in time") from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, "the body is larger than the server takes")
        self._whole = not message.get("more_body", False)
        return message

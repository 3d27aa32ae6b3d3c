"""Who may ask, and how much: bearer tokens (RFC 6750), each with its rates and its largest body."""

import hmac
import math
import time
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from research.serving.web import problems, tokens
from research.serving.web.guard import Body
from research.serving.web.tokens import Token

OPEN = ("/healthz", "/readyz", "/")  # to everyone: a load balancer has no token, and the page asks for one
OPEN_BELOW, ADMIN_BELOW = "/page/", "/v1/admin/"


class Allowance:
    """A token bucket: `per_minute` at once, which come back evenly. It may be overdrawn, and is empty until that is back.

    >>> a = Allowance(60, now=0.0)
    >>> a.spend(61)
    >>> a.wait(now=0.0), a.wait(now=1.5), a.wait(now=1000.0)
    (2.0, 0.5, 0.0)
    """

    def __init__(self, per_minute: int, now: float):
        """`now` is in seconds, of a clock that never goes back."""
        self._most, self._left, self._time = per_minute, float(per_minute), now

    def wait(self, now: float) -> float:
        """Seconds until one can be spent."""
        self._left = min(self._most, self._left + (now - self._time) * self._most / 60)
        self._time = now
        return max(0.0, (1 - self._left) * 60 / self._most)

    def spend(self, count: int) -> None:
        self._left -= count


class Caller:
    """A token and what is left of its rates."""

    def __init__(self, token: Token, now: float):
        rates = {"requests": token.requests_per_minute, "tokens": token.tokens_per_minute}
        self.token = token
        self._allowances = {kind: Allowance(rate, now) for kind, rate in rates.items() if rate is not None}

    def wait(self, now: float) -> tuple[int, str]:
        """Whole seconds until a request is admitted, and what is used up until then: "requests" or "tokens"."""
        waits = ((math.ceil(allowance.wait(now)), kind) for kind, allowance in self._allowances.items())
        return max(waits, default=(0, ""))

    def spend(self, kind: str, count: int) -> None:
        if kind in self._allowances:
            self._allowances[kind].spend(count)


class Access:
    """An ASGI application around another, for those alone who have a token.

    A request without a valid token is answered with 401, one for another version of a model without the right to it with 403,
    one beyond its token's rates with 429, and a body larger than its token allows with 413, before it is read whole. The routes
    count tokens of text with `spend`.
    """

    def __init__(self, app: ASGIApp, allowed: Callable[[], Sequence[Token]], registry: CollectorRegistry):
        """`allowed` gives the tokens of now: the same object as long as nothing has changed."""
        self._app, self._allowed = app, allowed
        self._tokens_now: Sequence[Token] = ()
        self._callers: list[Caller] = []
        self._requests = Counter("almanac_client_requests", "Requests by token", ["client"], registry=registry)
        self._tokens = Counter("almanac_client_tokens", "Tokens of text by token", ["client"], registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or scope["path"].startswith(OPEN_BELOW):
            await self._app(scope, receive, send)
            return
        try:
            caller = self._admitted(scope["headers"], scope["path"])
        except problems.Problem as problem:
            await _refusal(problem)(scope, receive, send)
            return
        name, most = caller.token.name, caller.token.largest_body
        self._requests.labels(name).inc()

        def spend(count: int) -> None:
            caller.spend("tokens", count)
            self._tokens.labels(name).inc(count)

        scope["spend"] = spend
        await self._app(scope, receive if most is None else Body(receive, most), send)

    def _callers_now(self) -> list[Caller]:
        """A token that stays as it was keeps what is left of its rates."""
        if (tokens_now := self._allowed()) is not self._tokens_now:
            before, now = {each.token: each for each in self._callers}, time.monotonic()
            self._callers = [before.get(token) or Caller(token, now) for token in tokens_now]
            self._tokens_now = tokens_now
        return self._callers

    def _admitted(self, headers: list[tuple[bytes, bytes]], path: str) -> Caller:
        """The caller of a request, which is counted. Raises `Problem`, 401, 403 or 429."""
        given = [value for name, value in headers if name == b"authorization"]
        scheme, _, secret = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer":
            raise problems.Problem(401, "missing_token", "this server wants a token: Authorization: Bearer TOKEN")
        digest = tokens.digest(secret.strip())
        known = [
            each for each in self._callers_now() if hmac.compare_digest(each.token.sha256, digest)
        ]  # all are compared
        if not known:
            raise problems.Problem(401, "invalid_token", "this token is not known")
        (caller,) = known
        if caller.token.expires is not None and caller.token.expires <= time.time():
            raise problems.Problem(401, "expired_token", "this token has expired")
        if path.startswith(ADMIN_BELOW) and not caller.token.admin:
            raise problems.Problem(403, "no_admin", "this token may not change the versions of models")
        seconds, kind = caller.wait(time.monotonic())
        if seconds:
            message = f"the {kind} a minute of this token are used up; try again in {seconds} s"
            raise problems.Problem(429, "rate_limit_exceeded", message, retry_after=seconds)
        caller.spend("requests", 1)
        return caller


def spend(request: Request, count: int) -> None:
    """Counts tokens of text, read or generated, for whoever asks. Without tokens nobody is counted."""
    if "spend" in request.scope:
        request.scope["spend"](count)


def _refusal(problem: problems.Problem) -> Response:
    response = problem.response()
    if problem.status == 401:  # RFC 6750, section 3: no error of a token that was not sent
        error = (
            "" if problem.code == "missing_token" else f' error="invalid_token", error_description="{problem.message}"'
        )
        response.headers["WWW-Authenticate"] = f"Bearer{error}"
    return response

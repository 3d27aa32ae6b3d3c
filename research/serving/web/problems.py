"""What goes wrong with a request, as an answer: a status, one sentence and a code, never a path or a stack trace."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from research.util.errors import UserError, nearest
from research.util.escape import visible

CODES = {404: "not_found", 405: "method_not_allowed", 408: "timeout", 413: "body_too_large"}


class Fault(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class Error(BaseModel):
    """The body of every error, in the form of OpenAI's API."""

    error: Fault


RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Error, "description": "The request cannot be answered"},
    "5XX": {"model": Error, "description": "The server cannot answer"},
}


class Problem(Exception):
    """An answer that is an error. `param` names the field; `retry_after` is in seconds."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.param, self.retry_after = param, retry_after

    def body(self) -> dict[str, Any]:
        """In the form of OpenAI's API: {"error": {"message", "type", "param", "code"}}."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return JSONResponse(self.body(), self.status, headers)


def busy() -> Problem:
    return Problem(429, "queue_full", "too many requests are waiting; try again", retry_after=1)


def closing() -> Problem:
    return Problem(503, "shutting_down", "the server is shutting down", retry_after=10)


def out_of_time() -> Problem:
    return Problem(504, "timeout", "the answer took longer than the server allows")


def failed() -> Problem:
    return Problem(500, "internal_error", "the server failed to compute the answer")


def of_user(error: UserError, param: str | None = None) -> Problem:
    return Problem(422, "invalid_value", visible(error), param)


def unknown_class(name: str, classes: Sequence[str], param: str) -> Problem:
    """Of an answer without classes, which only feedback may be on, what else can be said of it."""
    if not classes:
        message = "the answer had no classes to choose from; give a rating or a correction"
    else:
        message = f"the model has no class {name!r}{nearest(name, classes)}"
    return Problem(422, "unknown_class", f"{param}: {message}", param)


def install(app: FastAPI) -> None:
    """Every error of `app` in one form."""

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> JSONResponse:
        return error.response()

    @app.exception_handler(UserError)
    async def user_error(_: Request, error: UserError) -> JSONResponse:
        return of_user(error).response()

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        code = CODES.get(error.status_code, "bad_request")
        response = Problem(error.status_code, code, visible(error.detail)).response()
        response.headers.update(error.headers or {})  # of 405, Allow
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = max(
            error.errors(), key=lambda each: len(each["loc"])
        )  # of a field of several types, the one that came furthest
        if first["type"] == "json_invalid":
            return Problem(400, "invalid_json", "the body is no JSON").response()
        if first["loc"] == ("body",):
            message = "the body is no JSON object, or its Content-Type is not application/json"
            return Problem(400, "invalid_json", message).response()
        path = [str(part) for part in first["loc"][1:]]
        place = ".".join(part for part in path if part.isdigit() or part.isidentifier() and part != "str")
        code = {"extra_forbidden": "unknown_field", "missing": "missing_field"}.get(first["type"], "invalid_value")
        return Problem(422, code, visible(f"{place or 'body'}: {first['msg']}"), visible(place) or None).response()

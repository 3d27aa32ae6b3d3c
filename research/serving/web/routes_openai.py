"""OpenAI's API for language models: completions and chat completions, whole or as a stream of server-sent events."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from research.serving.web import access, completion, problems
from research.serving.web.completion import Piece, Plan
from research.serving.web.metrics import Metrics
from research.serving.web.openai_answers import Answer, ChatCompletion, Completion
from research.serving.web.openai_schema import ChatRequest, CompletionRequest, Generation
from research.serving.web.served import Find, Models, Served

T = TypeVar("T")
EVENTS = "text/event-stream"
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {EVENTS: {"schema": {"type": "string"}}}}
}  # with `stream`


def router(models: Models, metrics: Metrics) -> APIRouter:
    routes = APIRouter(prefix="/v1", tags=["language models"])

    async def answer(
        request: Request, body: Generation, model: Served, plan: Plan, kind: type[Answer], top: Any
    ) -> Any:
        servable = model.servable
        made = kind(model.id, servable.version, servable.language.tokenizer, len(plan.request.prompt), top)
        pieces = completion.pieces(model, plan, metrics, partial(access.spend, request))
        if not body.stream:
            return made.whole(await _unless_gone(request, _all(pieces)))
        first = await _unless_gone(request, anext(pieces))  # what cannot be served gets a status of its own
        usage = body.stream_options is not None and body.stream_options.include_usage
        return StreamingResponse(_events(made, first, pieces, usage), media_type=EVENTS)

    @routes.post("/completions", summary="The continuation of a text", responses=STREAMED)
    async def completions(
        body: CompletionRequest, request: Request, find: Annotated[Find, Depends(models.in_use)]
    ) -> Any:
        model = _generating(find(body.model))
        plan = await completion.of_completion(model, body)
        return await answer(request, body, model, plan, Completion, body.logprobs)

    @routes.post("/chat/completions", summary="The reply to a conversation", responses=STREAMED)
    async def chat_completions(
        body: ChatRequest, request: Request, find: Annotated[Find, Depends(models.in_use)]
    ) -> Any:
        model = _generating(find(body.model))
        if body.top_logprobs is not None and not body.logprobs:
            raise problems.Problem(422, "invalid_value", "top_logprobs: set logprobs to true", "top_logprobs")
        plan = await completion.of_chat(model, body)
        top = (body.top_logprobs or 0) if body.logprobs else None
        return await answer(request, body, model, plan, ChatCompletion, top)

    return routes


def _generating(model: Served) -> Served:
    if model.engine is None:
        message = f"{model.servable.name} does not generate text; use /v1/predict"
        raise problems.Problem(400, "no_text_model", message, "model")
    return model


async def _all(pieces: AsyncGenerator[Piece]) -> list[Piece]:
    async with contextlib.aclosing(pieces):
        return [piece async for piece in pieces]


async def _events(made: Answer, first: Piece, pieces: AsyncGenerator[Piece], usage: bool) -> AsyncIterator[str]:
    """Server-sent events: a chunk for each token and for the end, and "[DONE]"."""
    async with contextlib.aclosing(pieces):
        for chunk in made.first():
            yield _event(chunk)
        try:
            yield _event(made.chunk(first))
            async for piece in pieces:
                yield _event(made.chunk(piece))
            if usage:
                yield _event(made.last())
        except problems.Problem as problem:
            yield _event(problem.body())
        yield "data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled if the client leaves."""
    task, left = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise problems.Problem(499, "client_closed_request", "the client left")
        return task.result()
    finally:
        for each in (task, left):
            each.cancel()
        await asyncio.gather(task, left, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

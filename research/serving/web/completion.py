"""From a request of OpenAI's API to the engine's, and from the engine's tokens to pieces of text."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from research.data import tokenizers
from research.data.text import chat
from research.generation import constraints
from research.generation.text_stream import TextStream, stop_sequences
from research.serving import jobs
from research.serving.web import problems, trace
from research.serving.web.metrics import Metrics, TokenClock
from research.serving.web.openai_schema import ChatRequest, CompletionRequest, Generation
from research.serving.web.served import Served
from research.util.errors import UserError

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
DEFAULT_TOKENS = 16  # of a completion, as OpenAI's


class Plan(NamedTuple):
    """A request for the engine, and how its answer ends.

    stop  texts that end it
    eos   the token that ends it without being part of it
    key   all that the answer is a function of; None: of a seed that nobody gave, too
    asked the conversation up to the answer, to be captured; a text to continue is a user's message, and token ids are none
    """

    request: jobs.Request
    stop: list[str]
    eos: int | None
    key: Hashable = None
    asked: list[dict[str, str]] | None = None


class Piece(NamedTuple):
    """What one token adds to the text, or the end of it."""

    text: str
    token: jobs.Token | None = None
    reason: str | None = None


async def of_completion(model: Served, body: CompletionRequest) -> Plan:
    """Raises `Problem` or UserError for what cannot be served."""
    tokenizer = model.servable.language.tokenizer
    if isinstance(body.prompt, str):
        tokens = await asyncio.to_thread(_tokens, lambda: tokenizers.opened(tokenizer, body.prompt), "prompt")
    else:
        tokens = np.array(body.prompt, np.int64)
    given = body.max_tokens if "max_tokens" in body.model_fields_set else None
    plan = await _plan(model, body, tokens, given, DEFAULT_TOKENS, [], "prompt")
    return plan._replace(asked=[{"role": "user", "content": body.prompt}]) if isinstance(body.prompt, str) else plan


async def of_chat(model: Served, body: ChatRequest) -> Plan:
    """Raises `Problem` or UserError for what cannot be served, a model without a chat template too."""
    language = model.servable.language
    if (template := language.template) is None:
        message = "this model has no chat template; use /v1/completions"
        raise problems.Problem(400, "no_chat_template", message, "model")
    messages = [message.model_dump() for message in body.messages]
    prompt = lambda: chat.prompt(messages, template, language.tokenizer)[1]  # noqa: E731
    tokens = await asyncio.to_thread(_tokens, prompt, "messages")
    end = [chat.ENDS[template]] if template in chat.ENDS else []
    given = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    plan = await _plan(model, body, tokens, given, model.engine.length, end, "messages")
    return plan._replace(asked=messages)


def _tokens(encode: Any, param: str) -> np.ndarray:
    try:
        tokens = encode()
    except UserError as error:
        raise problems.of_user(error, param) from None
    if not len(tokens):
        raise problems.Problem(422, "invalid_value", f"{param}: there is no token in it", param)
    return tokens


async def _plan(
    model: Served, body: Generation, tokens: np.ndarray, given: int | None, default: int, end: list[str], param: str
) -> Plan:
    """`given` is the number of tokens that was asked for, and `default` what is generated otherwise, if there is room."""
    room = model.engine.length - len(tokens)
    length = min(default, room) if given is None else given
    if not 1 <= length <= room:
        message = (
            f"{len(tokens)} tokens of {param} and {max(length, 1)} to generate are more than the context of "
            f"{model.engine.length}"
        )
        raise problems.Problem(400, "context_length_exceeded", message, param)
    tokenizer = model.servable.language.tokenizer
    constraint, eos, stop = await _constraint(model, body), tokenizer.special.get("eos"), [*body.stops, *end]
    if constraint is not None and body.stops:
        message = "a text that must match ends where it does; leave stop out"
        raise problems.Problem(422, "invalid_value", message, "stop")
    if constraint is not None:
        eos, stop = None, []
    sequences = [s.tolist() for s in stop_sequences(tokenizer, stop)] + ([] if eos is None else [[eos]])
    sampling = {name: value for name in SAMPLING if (value := getattr(body, name)) is not None}
    seed = secrets.randbits(31) if body.seed is None else body.seed
    key = jax.random.fold_in(jax.random.key(seed), 0)  # of row 0, as `generate` has it
    request = jobs.Request(tokens, length, key, sampling, sequences, constraint)
    return Plan(request, stop, eos, _key(body, tokens, length, stop))


def _key(body: Generation, tokens: np.ndarray, length: int, stop: list[str]) -> Hashable:
    if body.seed is None and body.temperature != 0:
        return None
    return tokens.tobytes(), length, tuple(stop), body.model_dump_json(include={*SAMPLING, "seed", "response_format"})


async def _constraint(model: Served, body: Generation) -> Any:
    if body.response_format is None or body.response_format.type == "text":
        return None
    if body.response_format.json_schema is None:
        raise problems.Problem(422, "missing_field", "response_format.json_schema is missing", "response_format")
    try:
        return await model.constraint(constraints.schema_regex(body.response_format.json_schema.json_schema))
    except UserError as error:
        raise problems.of_user(error, "response_format") from None


async def pieces(model: Served, plan: Plan, metrics: Metrics, spend: Callable[[int], None]) -> AsyncGenerator[Piece]:
    """The answer's pieces, one a token, and at the end one with the reason: "stop" or "length". A kept answer comes at once.

    `spend` is called with the number of tokens that each step adds to the usage, the prompt's in the first.
    """
    new = len(plan.request.prompt)
    if (kept := None if plan.key is None else model.answers.get(plan.key)) is not None:
        spend(new + sum(piece.token is not None for piece in kept))
        trace.current().repeated(model.servable)
        for piece in kept:
            yield piece
        _keep(model, plan, kept)
        return
    clock, made = TokenClock(metrics, model, new), []
    async with contextlib.aclosing(_generated(model, plan)) as generated:
        async for piece in generated:
            if piece.token is not None:
                clock.tick()
                spend(new + 1)
                new = 0
            made.append(piece)
            yield piece
    if plan.key is not None:
        model.answers.put(plan.key, made)
    _keep(model, plan, made)


def _keep(model: Served, plan: Plan, made: Sequence[Piece]) -> None:
    """Once the whole answer is made; one that was cut at its length is captured as none, for nobody should learn to end there."""
    if plan.asked is not None:
        whole = made[-1].reason == jobs.STOP
        trace.current().keep(model.servable, plan.asked, "".join(piece.text for piece in made) if whole else "")


async def _generated(model: Served, plan: Plan) -> AsyncGenerator[Piece]:
    text = TextStream(model.servable.language.tokenizer, "", np.zeros(0, np.int32), plan.stop)
    async with contextlib.aclosing(model.generate(plan.request)) as events:
        async for event in events:
            if isinstance(event, jobs.Finished):
                yield Piece(text.rest(), None, event.reason)
                return
            if event.id == plan.eos:
                yield Piece(text.rest(), event, jobs.STOP)
                return
            piece = text.push(event.id)
            yield Piece(piece, event, jobs.STOP if text.stopped else None)
            if text.stopped:
                return

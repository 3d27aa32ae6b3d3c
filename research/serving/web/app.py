"""The application: every route over the models that are served."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial

from fastapi import FastAPI

from research.serving.web import problems, routes_embeddings, routes_health, routes_oip, routes_openai, routes_predict
from research.serving.web.access import Access
from research.serving.web.guard import Guard
from research.serving.web.metrics import Metrics
from research.serving.web.served import Limits, Models
from research.serving.web.tokens import Token

ABOUT = (
    "Predictions and text from the runs of Almanac. Every error is a JSON object with `message`, `code` and `param`."
)


def create(models: Models, limits: Limits, tokens: Sequence[Token] | None = None) -> FastAPI:
    """The ASGI application over models that have been started. Their requests may end when it stops.

    tokens  of those who may ask; None: everyone may
    """
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(models.close)

    app = FastAPI(title="Almanac", description=ABOUT, version="1", lifespan=lifespan, responses=problems.RESPONSES)
    if tokens is not None:
        app.add_middleware(partial(Access, allowed=tokens, registry=metrics.registry))  # type: ignore[arg-type]
    app.add_middleware(partial(Guard, metrics=metrics, body=limits.body, requests=limits.requests))  # type: ignore[arg-type]
    problems.install(app)
    for router in (
        routes_health.router(models, metrics),
        routes_predict.router(models),
        routes_oip.router(models),
        routes_openai.router(models, metrics),
        routes_embeddings.router(models),
    ):
        app.include_router(router)
    return app

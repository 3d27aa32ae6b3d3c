"""The application: every route over the models that are served."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from research.serving.monitor.observer import Observer
from research.serving.web import (
    problems,
    routes_admin,
    routes_embeddings,
    routes_explain,
    routes_feedback,
    routes_health,
    routes_oip,
    routes_openai,
    routes_page,
    routes_predict,
)
from research.serving.web.access import Access
from research.serving.web.guard import Guard
from research.serving.web.metrics import Metrics
from research.serving.web.served import Limits, Models
from research.serving.web.spans import Spans
from research.serving.web.tokens import Token
from research.serving.web.trace import Traced

ABOUT = (
    "Predictions and text from the runs of Almanac. Every error is a JSON object with `message`, `code` and `param`."
)


def create(
    models: Models,
    limits: Limits,
    tokens: Callable[[], Sequence[Token]] | None = None,
    bundles: Path | None = None,
    observer: Observer | None = None,
    spans: Spans | None = None,
) -> FastAPI:
    """The ASGI application over models that have been started. Their requests may end when it stops.

    tokens    gives the tokens of those who may ask now, as `tokens.Watched` does; None: everyone may
    bundles   a folder below which bundles may be loaded as new versions while it serves; None: none may, and no version changes
    observer  gets every request and feedback on it, and is started and closed with the application
    spans     gets every request, to send traces of it, and is closed with the application
    """
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if observer is not None:
            observer.start()
        yield
        await asyncio.to_thread(models.close)
        if observer is not None:
            await asyncio.to_thread(observer.close)
        if spans is not None:
            await asyncio.to_thread(spans.close)

    app = FastAPI(title="Almanac", description=ABOUT, version="1", lifespan=lifespan, responses=problems.RESPONSES)
    if tokens is not None:
        app.add_middleware(partial(Access, allowed=tokens, registry=metrics.registry))  # type: ignore[arg-type]
    app.add_middleware(partial(Guard, metrics=metrics, body=limits.body, requests=limits.requests))  # type: ignore[arg-type]
    app.add_middleware(partial(Traced, observer=observer, spans=spans))  # type: ignore[arg-type]  # around the guard: its answers have ids, too
    problems.install(app)
    for router in (
        routes_page.router(),
        routes_health.router(models, metrics),
        routes_predict.router(models),
        routes_explain.router(models),
        routes_oip.router(models),
        routes_openai.router(models, metrics),
        routes_embeddings.router(models),
    ):
        app.include_router(router)
    if observer is not None:
        app.include_router(routes_feedback.router(observer))
    if bundles is not None:
        app.include_router(routes_admin.router(models, limits, bundles))
    return app

"""Whether the server lives and can answer, what it serves, and its metrics."""

from fastapi import APIRouter, Response

from research.serving.web import problems, routes_explain
from research.serving.web.metrics import Metrics
from research.serving.web.served import Models


def router(models: Models, metrics: Metrics) -> APIRouter:
    routes = APIRouter(tags=["service"])

    @routes.get("/healthz", summary="Whether the process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get("/readyz", summary="Whether every model can answer")
    async def readyz() -> dict[str, str]:
        if not models.are_ready:
            raise problems.closing()
        return {"status": "ready"}

    @routes.get("/metrics", summary="Prometheus' text format", response_class=Response)
    async def read_metrics() -> Response:
        return Response(metrics.text(models), media_type="text/plain; version=0.0.4; charset=utf-8")

    @routes.get("/v1/models", summary="The models, as OpenAI's API lists them")
    async def list_models() -> dict:
        return {"object": "list", "data": [_card(models, name) for name in models.versions]}

    @routes.get("/v1/models/{name}", summary="One model")
    async def one_model(name: str) -> dict:
        return _card(models, name)

    return routes


def _card(models: Models, name: str) -> dict:
    model = models[name]
    predictor, engine = model.servable.predictor, model.engine
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "almanac",
        "version": model.servable.version,
        "versions": list(models.versions[model.servable.name].loaded),
        "inputs": {k: {"shape": list(shape), "dtype": dtype} for k, (shape, dtype) in predictor.codec.inputs.items()},
        "embeds": list(predictor.codec.embeddings),
        "explains": routes_explain.explains(model),
        "generates": engine is not None,
        "context": None if engine is None else engine.length,
        "chat": bool(model.servable.language and model.servable.language.template),
    }

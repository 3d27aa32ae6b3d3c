"""Predictions from values: texts, images, arrays, and tuples of them."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from research.serving.web import problems, trace, values
from research.serving.web.openai_schema import Strict
from research.serving.web.served import Find, Models, Served
from research.util.errors import UserError

EXAMPLES = {
    "text": {"value": {"model": "tiny", "inputs": ["the try statement and its except clauses"]}},
    "pair": {"value": {"model": "tiny", "inputs": [["Who wrote it?", "It was written by Ada."]]}},
    "image": {"value": {"model": "tiny", "inputs": [{"image": "iVBORw0KGgo..."}]}},
    "numbers": {"value": {"model": "tiny", "inputs": [[0.1, 0.2, 0.3]]}},
}
MOST_VALUES = 256


class PredictRequest(Strict):
    """Values to predict from, each by itself; the README of a model's family says what it takes."""

    model: str
    inputs: list[Any] = Field(min_length=1, max_length=MOST_VALUES)


def router(models: Models) -> APIRouter:
    routes = APIRouter(tags=["prediction"])

    @routes.post(
        "/v1/predict",
        summary="What a model makes of each value, as `almanac predict` prints it",
        openapi_extra={"requestBody": {"content": {"application/json": {"examples": EXAMPLES}}}},
    )
    async def predict(request: PredictRequest, find: Annotated[Find, Depends(models.in_use)]) -> dict:
        model = find(request.model)
        encoded = await asyncio.to_thread(_encode, model, request.inputs)
        outputs = await model.predict_all(encoded)
        decode = model.servable.predictor.codec.decode
        decoded = await asyncio.to_thread(lambda: [values.to_json(decode(each)) for each in outputs])
        return {"model": model.id, "version": model.servable.version, "outputs": decoded}

    return routes


def _encode(model: Served, inputs: list[Any]) -> list:
    """Every value is checked before any is predicted."""
    encoded = []
    for number, value in enumerate(inputs):
        try:
            encoded.append(values.encode(model.servable.predictor, value))
            model.batcher.programs.check(encoded[-1])
            trace.current().keep(model.servable, value)
        except UserError as error:
            raise problems.of_user(error, f"inputs.{number}") from None
    return encoded
